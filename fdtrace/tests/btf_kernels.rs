//! The resolver on real kernels: the types fdtrace asks for, cut out of each kernel's BTF with
//! `examples/mini_btf.rs`, and the BTF of the machine the test runs on.
//!
//! The numbers come from `bpftool -j btf dump` on the uncut BTFs, not from the code under test.

use std::{fs, path::Path};

use fdtrace::probe::btf::{Btf, BtfError, Obstacle};

/// The kernels of [`FIELDS`]. All `x86_64`: Debian's cloud images, and a Firecracker guest's.
const KERNELS: [&str; 5] = [
    "debian-5.10",
    "debian-6.1",
    "debian-6.12",
    "firecracker-6.18",
    "debian-7.2",
];
/// The release of the one kernel of [`KERNELS`] that such tests are known to run on.
const FIRECRACKER: &str = "6.18.44-fc-v657";
/// In place of an offset: this kernel does not have the field.
const ABSENT: i64 = -1;

/// Structure, path, offset on each of [`KERNELS`], size.
#[rustfmt::skip]
const FIELDS: &[(&str, &str, [i64; 5], u32)] = &[
    ("task_struct", "files", [2808, 3048, 3048, 1824, 3416], 8),
    ("task_struct", "signal", [2832, 3072, 3072, 1848, 3448], 8),
    ("task_struct", "comm", [2736, 2976, 2976, 1752, 3344], 16),
    ("task_struct", "pid", [2232, 2416, 2432, 1264, 2808], 4),
    ("task_struct", "tgid", [2236, 2420, 2436, 1268, 2812], 4),
    ("task_struct", "start_time", [2536, 2776, 2776, 1552, 3152], 8),
    ("task_struct", "start_boottime", [2544, 2784, 2784, 1560, 3160], 8),
    ("task_struct", "real_start_time", [ABSENT, ABSENT, ABSENT, ABSENT, ABSENT], 0),
    ("task_struct", "group_leader", [2296, 2480, 2496, 1328, 2872], 8),
    ("task_struct", "real_parent", [2248, 2432, 2448, 1280, 2824], 8),
    ("task_struct", "cgroups", [3328, 3600, 3584, 2376, 4000], 8),
    ("task_struct", "cred", [2720, 2960, 2960, 1736, 3328], 8),
    ("task_struct", "mm", [2056, 2272, 2304, 1136, 2680], 8),
    ("task_struct", "nsproxy", [2824, 3064, 3064, 1840, 3440], 8),
    ("task_struct", "thread_pid", [2336, 2520, 2536, 1368, 2912], 8),
    ("task_struct", "stack", [24, 32, 32, 32, 32], 8),
    ("task_struct", "loginuid", [2936, 3176, 3176, 1952, 3552], 4),
    ("signal_struct", "rlim", [672, 688, 680, 680, 704], 256),
    ("signal_struct", "rlim[7].rlim_cur", [784, 800, 792, 792, 816], 8),
    ("signal_struct", "rlim[7].rlim_max", [792, 808, 800, 800, 824], 8),
    ("signal_struct", "nr_threads", [8, 8, 8, 8, 8], 4),
    ("signal_struct", "pids[1]", [360, 368, 360, 368, 384], 8),
    ("files_struct", "count", [0, 0, 0, 0, 0], 4),
    ("files_struct", "fdt", [32, 32, 32, 32, 32], 8),
    ("files_struct", "file_lock", [128, 128, 128, 128, 128], 4),
    ("files_struct", "next_fd", [132, 132, 132, 132, 132], 4),
    ("fdtable", "max_fds", [0, 0, 0, 0, 0], 4),
    ("fdtable", "fd", [8, 8, 8, 8, 8], 8),
    ("fdtable", "close_on_exec", [16, 16, 16, 16, 16], 8),
    ("fdtable", "open_fds", [24, 24, 24, 24, 24], 8),
    ("file", "f_path.dentry", [24, 24, 72, 72, 72], 8),
    ("file", "f_path.mnt", [16, 16, 64, 64, 64], 8),
    ("file", "f_inode", [32, 32, 40, 32, 32], 8),
    ("file", "f_op", [40, 40, 16, 8, 8], 8),
    ("file", "f_flags", [64, 64, 48, 40, 40], 4),
    ("file", "f_mode", [68, 68, 12, 4, 4], 4),
    ("file", "f_count", [56, 56, 0, ABSENT, ABSENT], 8),
    ("file", "f_ref", [ABSENT, ABSENT, ABSENT, 176, 168], 8),
    ("file", "private_data", [200, 200, 32, 24, 24], 8),
    ("dentry", "d_name.name", [40, 40, 40, 40, 40], 8),
    ("dentry", "d_name.len", [36, 36, 36, 36, 36], 4),
    ("dentry", "d_parent", [24, 24, 24, 24, 24], 8),
    ("dentry", "d_inode", [48, 48, 48, 48, 48], 8),
    ("dentry", "d_shortname", [ABSENT, ABSENT, ABSENT, 56, 56], 40),
    ("inode", "i_ino", [64, 64, 64, 64, 64], 8),
    ("inode", "i_mode", [0, 0, 0, 0, 0], 2),
    ("inode", "i_rdev", [76, 76, 76, 76, 76], 4),
    ("inode", "i_sb", [40, 40, 40, 40, 40], 8),
    ("inode", "i_nlink", [72, 72, 72, 72, 72], 4),
    ("super_block", "s_magic", [96, 96, 96, 96, 96], 8),
    ("super_block", "s_dev", [16, 16, 16, 16, 16], 4),
    ("super_block", "s_type", [40, 40, 40, 40, 40], 8),
    ("mount", "mnt_parent", [16, 16, 16, 16, 16], 8),
    ("mount", "mnt_mountpoint", [24, 24, 24, 24, 24], 8),
    ("vfsmount", "mnt_root", [0, 0, 0, 0, 0], 8),
    ("mm_struct", "exe_file", [928, 936, 1168, 1312, 1536], 8),
    ("css_set", "dfl_cgrp", [120, 128, 128, 112, 128], 8),
    ("css_set", "subsys[0]", [0, 0, 0, 0, 0], 8),
    ("cgroup", "kn", [248, 248, 256, 256, 296], 8),
    ("cgroup", "self.id", [80, 80, 80, 72, 72], 4),
    ("kernfs_node", "id", [104, 104, 96, 96, 96], 8),
    ("kernfs_node", "parent", [8, 8, 8, ABSENT, ABSENT], 8),
    ("kernfs_node", "__parent", [ABSENT, ABSENT, ABSENT, 8, 8], 8),
    ("kernfs_node", "name", [16, 16, 16, 16, 16], 8),
    ("cred", "uid.val", [8, 8, 8, 8, 8], 4),
    ("cred", "euid", [24, 24, 24, 24, 24], 4),
    ("pid", "numbers[0].nr", [96, 96, 112, 144, 128], 4),
    ("pid", "inode", [ABSENT, ABSENT, ABSENT, ABSENT, ABSENT], 0),
    ("upid", "nr", [0, 0, 0, 0, 0], 4),
    ("pt_regs", "ax", [80, 80, 80, 80, 80], 8),
    ("pt_regs", "orig_ax", [120, 120, 120, 120, 120], 8),
    ("sock", "sk_shutdown", [626, 610, 571, 575, 591], 1),
    ("sock", "__sk_common.skc_family", [16, 16, 16, 16, 16], 2),
    ("thread_info", "flags", [0, 0, 0, 0, 0], 8),
];

fn kernel(name: &str) -> Btf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/btf");
    Btf::from_file(&directory.join(format!("{name}.btf"))).expect(name)
}

/// The running kernel's BTF, or a word on why there is nothing to test.
fn here() -> Option<Btf> {
    match Btf::from_sys_fs() {
        Ok(btf) => Some(btf),
        Err(error @ BtfError::NotExported { .. }) => {
            eprintln!("nothing to compare with: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn expect(btf: &Btf, kernel: &str, column: usize) {
    for &(structure, path, offsets, size) in FIELDS {
        let what = format!("{kernel}: {structure}.{path}");
        match btf.field(structure, path) {
            Ok(field) => {
                assert_eq!(
                    (i64::from(field.offset), field.size),
                    (offsets[column], size),
                    "{what}"
                );
            }
            Err(error) => {
                assert!(error.is_absent(), "{what}: {error}");
                assert_eq!(ABSENT, offsets[column], "{what}");
            }
        }
    }
}

#[test]
fn every_field_on_every_kernel() {
    for (column, name) in KERNELS.into_iter().enumerate() {
        expect(&kernel(name), name, column);
    }
}

/// The cut BTF may have lost something that the whole one has.
#[test]
fn the_same_fields_in_a_whole_btf() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let Some(btf) = here().filter(|_| release.trim() == FIRECRACKER) else {
        eprintln!("this is another kernel than {FIRECRACKER}");
        return;
    };
    expect(&btf, FIRECRACKER, 3);
    assert!(btf.types() > 100_000);
}

/// The slab allocator knows the sizes of some structures without BTF. It may round them up, or
/// give a cache to two kinds of objects of nearly the same size.
#[test]
fn sizes_agree_with_the_slab_allocator() {
    let Some(btf) = here() else { return };
    for (cache, structure) in [
        ("files_cache", "files_struct"),
        ("filp", "file"),
        ("cred", "cred"),
        ("dentry", "dentry"),
        ("inode_cache", "inode"),
        ("kernfs_node_cache", "kernfs_node"),
    ] {
        // Only root may read it, and not every kernel has every cache.
        let Ok(text) = fs::read_to_string(format!("/sys/kernel/slab/{cache}/object_size")) else {
            continue;
        };
        let object: u32 = text.trim().parse().expect(cache);
        let size = btf.size_of(structure).expect(structure);
        assert!(
            (size..size + 64).contains(&object),
            "{structure}: {size} bytes, {cache}: {object}"
        );
    }
}

#[test]
fn renamed_fields_are_found_under_either_name() {
    for name in KERNELS {
        let btf = kernel(name);
        for (structure, names) in [
            ("file", ["f_ref", "f_count"]),
            ("kernfs_node", ["__parent", "parent"]),
            ("dentry", ["d_shortname", "d_iname"]),
        ] {
            assert!(
                btf.field_any(structure, &names).unwrap().is_some(),
                "{name}: {structure}"
            );
        }
        let paths = ["real_start_time", "start_boot_time"];
        assert_eq!(
            btf.field_any("task_struct", &paths).unwrap(),
            None,
            "{name}"
        );
    }
}

#[test]
fn bitfields_of_real_structures_are_refused() {
    for name in KERNELS {
        let error = kernel(name)
            .field("task_struct", "sched_reset_on_fork")
            .unwrap_err();
        assert!(
            matches!(
                error,
                BtfError::Unreachable {
                    problem: Obstacle::Bitfield,
                    ..
                }
            ),
            "{name}: {error}"
        );
    }
}

/// `TYPE name, TYPE name -> TYPE`, as one line.
fn prototype(btf: &Btf, name: &str) -> Option<String> {
    let function = btf.function(name).expect(name)?;
    let parameters: Vec<String> = function
        .parameters
        .iter()
        .map(|parameter| format!("{} {}", parameter.type_name, parameter.name))
        .collect();
    Some(format!("{} -> {}", parameters.join(", "), function.returns))
}

#[test]
fn prototypes_that_stayed() {
    for name in KERNELS {
        let btf = kernel(name);
        for (function, expected) in [
            (
                "alloc_fd",
                "unsigned int start, unsigned int end, unsigned int flags -> int",
            ),
            ("fd_install", "unsigned int fd, struct file * file -> void"),
            (
                "ksys_dup3",
                "unsigned int oldfd, unsigned int newfd, int flags -> int",
            ),
            (
                "do_dup2",
                "struct files_struct * files, struct file * file, unsigned int fd, \
                 unsigned int flags -> int",
            ),
            (
                "alloc_empty_file",
                "int flags, struct cred * cred -> struct file *",
            ),
            (
                "core_sys_select",
                "int n, fd_set * inp, fd_set * outp, fd_set * exp, struct timespec64 * end_time -> int",
            ),
            ("exit_files", "struct task_struct * tsk -> void"),
            ("get_anon_bdev", "dev_t * p -> int"),
            (
                "inc_ucount",
                "struct user_namespace * ns, kuid_t uid, enum ucount_type type -> struct ucounts *",
            ),
        ] {
            assert_eq!(
                prototype(&btf, function).as_deref(),
                Some(expected),
                "{name}: {function}"
            );
        }
        let inc_ucount = btf.function("inc_ucount").unwrap().unwrap();
        let by_value: Vec<bool> = inc_ucount.parameters.iter().map(|p| p.by_value).collect();
        assert_eq!(by_value, [false, true, false], "{name}");
    }
}

#[test]
fn prototypes_that_changed() {
    let old =
        "struct files_struct * oldf, unsigned int max_fds, int * errorp -> struct files_struct *";
    let new = "struct files_struct * oldf, struct fd_range * punch_hole -> struct files_struct *";
    let unsized_ = "struct file * file, unsigned int o_flags -> int";
    let sized = "struct file * file, int * ufd, unsigned int o_flags -> int";
    let close = "struct files_struct * files, unsigned int fd -> struct file *";
    let issue = "struct io_kiocb * req, unsigned int issue_flags -> int";
    let fuse = "struct fuse_mount * fm, u64 nodeid, unsigned int open_flags, bool isdir \
                -> struct fuse_file *";
    for (function, expected) in [
        (
            "dup_fd",
            [Some(old), Some(new), Some(new), Some(new), Some(new)],
        ),
        (
            "receive_fd",
            [None, Some(unsized_), Some(sized), Some(sized), Some(sized)],
        ),
        ("pick_file", [Some(close), Some(close), None, None, None]),
        (
            "file_close_fd_locked",
            [None, None, Some(close), Some(close), Some(close)],
        ),
        (
            "io_openat",
            [None, Some(issue), Some(issue), Some(issue), Some(issue)],
        ),
        (
            "io_install_fixed_fd",
            [None, None, Some(issue), Some(issue), Some(issue)],
        ),
        // A module on the older ones.
        (
            "fuse_file_open",
            [None, None, Some(fuse), Some(fuse), Some(fuse)],
        ),
        ("__alloc_fd", [None; 5]),
    ] {
        for (name, expected) in KERNELS.into_iter().zip(expected) {
            let found = prototype(&kernel(name), function);
            assert_eq!(found.as_deref(), expected, "{name}: {function}");
        }
    }
}

#[test]
fn enumerators_tell_which_helpers_there_are() {
    for (enumerator, expected) in [
        ("BPF_FUNC_probe_read_kernel", [Some(113); 5]),
        ("BPF_FUNC_ringbuf_reserve", [Some(131); 5]),
        (
            "BPF_FUNC_get_current_task_btf",
            [None, Some(158), Some(158), Some(158), Some(158)],
        ),
        (
            "BPF_FUNC_task_pt_regs",
            [None, Some(175), Some(175), Some(175), Some(175)],
        ),
        (
            "BPF_FUNC_loop",
            [None, Some(181), Some(181), Some(181), Some(181)],
        ),
    ] {
        for (name, expected) in KERNELS.into_iter().zip(expected) {
            let found = kernel(name).enumerator("bpf_func_id", enumerator);
            assert_eq!(found, expected, "{name}: {enumerator}");
        }
    }
    for name in KERNELS {
        let found = kernel(name).enumerator("ucount_type", "UCOUNT_INOTIFY_INSTANCES");
        assert_eq!(found, Some(8), "{name}");
    }
}

#[test]
fn tracepoints_and_structures_that_are_not_there() {
    for name in KERNELS {
        let btf = kernel(name);
        assert!(btf.has_tracepoint("sys_exit"), "{name}");
        assert!(!btf.has_tracepoint("fd_install"), "{name}");
        // No variable of that type exists, so the compiler does not describe it.
        assert!(
            btf.size_of("thread_union").unwrap_err().is_absent(),
            "{name}"
        );
    }
}
