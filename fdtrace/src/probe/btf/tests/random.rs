//! Generated input: whatever the bytes, an answer or an error.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{damage::every_kind, *};

/// A real kernel's types, and all of the synthetic ones.
fn seeds() -> [Vec<u8>; 2] {
    [
        every_kind().finish(),
        include_bytes!("../../../../tests/btf/debian-7.2.btf").to_vec(),
    ]
}

/// Asks everything there is to ask. Only a panic or a hang is wrong.
fn ask(bytes: Vec<u8>) {
    let Ok(btf) = Btf::parse(bytes) else {
        return;
    };
    for (structure, path) in [
        ("s", "a[3]"),
        ("s", "y"),
        ("s", "p"),
        ("last", "x"),
        ("task_struct", "files"),
        ("task_struct", "nothing"),
        ("signal_struct", "rlim[7].rlim_cur"),
        ("file", "f_path.dentry"),
        ("inode", "i_nlink"),
        ("cgroup", "self.id"),
    ] {
        let _ = btf.field(structure, path);
        let _ = btf.size_of(structure);
    }
    for name in ["f", "dup_fd", "inc_ucount", "do_mq_open"] {
        let _ = btf.function(name);
    }
    let _ = btf.enumerator("e", "ONE");
    let _ = btf.enumerator("v", "v");
    let _ = btf.enumerator("bpf_func_id", "BPF_FUNC_loop");
    let _ = btf.has_tracepoint("sys_exit");
}

/// Words that have a meaning somewhere: numbers of types, kinds, lengths, limits.
fn interesting_word() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0..64u32,
        (0..32u32, 0..4u32, any::<bool>())
            .prop_map(|(kind, vlen, flag)| kind << 24 | vlen | u32::from(flag) << 31),
        Just(u32::MAX),
        Just(0x00ff_ffff),
    ]
}

proptest! {
    #[test]
    fn bytes(bytes in vec(any::<u8>(), 0..512)) {
        ask(bytes);
    }

    #[test]
    fn bytes_behind_a_good_header(words in vec(interesting_word(), 0..256)) {
        let types = u32::try_from(words.len() * 4).unwrap();
        let strings = b"\0s\0x\0f\0";
        let header = [0x0001_eb9f, 24, 0, types, types, 7];
        let words = header.into_iter().chain(words);
        let mut bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        bytes.extend(strings);
        ask(bytes);
    }

    #[test]
    fn changed_words(
        seed in 0..2usize,
        changes in vec((any::<Index>(), interesting_word()), 1..12),
    ) {
        let mut bytes = seeds()[seed].clone();
        for (place, word) in changes {
            let words = bytes.len() / 4;
            let at = place.index(words) * 4;
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        ask(bytes);
    }

    #[test]
    fn changed_bytes(
        seed in 0..2usize,
        changes in vec((any::<Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = seeds()[seed].clone();
        for (place, byte) in changes {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        ask(bytes);
    }
}
