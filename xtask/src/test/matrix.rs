//! Which backends are tested on which kernels.

use crate::kernel::Kernel;

/// A backend that this machine may refuse, as `--backend` spells it.
pub(super) type Backend = &'static str;

const FENTRY: Backend = "fentry";
const KPROBE: Backend = "kprobe";

/// How much is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// One kernel and one backend.
    Quick,
    /// Each kernel once and each backend twice, with the tests that differ by them.
    Usual,
    /// Each kernel with each backend, with every test.
    Full,
}

/// A guest, and the backends that are tested in it, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) kernel: Kernel,
    pub(super) backends: Vec<Backend>,
    /// Every test, and not only those that want this kernel or this backend.
    pub(super) is_whole: bool,
}

/// The guests to boot, those that take longest first. Where kernels are named, it is about them: each is
/// tested with each backend.
pub(super) fn guests(extent: Extent, named: &[Kernel]) -> Vec<Guest> {
    let both = |kernel: &Kernel| Guest {
        kernel: *kernel,
        backends: vec![FENTRY, KPROBE],
        is_whole: true,
    };
    if !named.is_empty() {
        return named.iter().map(both).collect();
    }
    let one = |(kernel, backend)| Guest {
        kernel,
        backends: vec![backend],
        is_whole: false,
    };
    match extent {
        Extent::Quick => vec![one((Kernel::V6_1, FENTRY))],
        // Trampolines changed between 6.1 and the newest, kprobes hardly since 5.10. The newest kernel preempts
        // itself, where the fentry backend has kprobes among its hooks.
        Extent::Usual => [
            (Kernel::New, FENTRY),
            (Kernel::V6_1, FENTRY),
            (Kernel::V6_12, KPROBE),
            (Kernel::V5_10, KPROBE),
        ]
        .map(one)
        .to_vec(),
        Extent::Full => Kernel::ALL.iter().rev().map(both).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pairs(extent: Extent) -> BTreeSet<(String, Backend)> {
        let pairs = guests(extent, &[]).into_iter().flat_map(|guest| {
            let kernel = guest.kernel.to_string();
            let pair = move |backend| (kernel.clone(), backend);
            guest.backends.into_iter().map(pair)
        });
        pairs.collect()
    }

    #[test]
    fn each_kernel_and_each_backend_has_its_turn() {
        let usual = pairs(Extent::Usual);
        for kernel in Kernel::ALL {
            let kernel = kernel.to_string();
            assert!(usual.iter().any(|pair| pair.0 == kernel), "{kernel}");
        }
        for backend in [FENTRY, KPROBE] {
            assert_eq!(usual.iter().filter(|pair| pair.1 == backend).count(), 2);
        }
    }

    #[test]
    fn more_is_never_less() {
        assert!(pairs(Extent::Quick).is_subset(&pairs(Extent::Usual)));
        assert!(pairs(Extent::Usual).is_subset(&pairs(Extent::Full)));
        assert_eq!(pairs(Extent::Full).len(), 8);
    }

    #[test]
    fn a_named_kernel_is_tested_whole() {
        let guests = guests(Extent::Usual, &[Kernel::V6_12]);
        assert_eq!(guests.len(), 1);
        assert_eq!(guests[0].kernel, Kernel::V6_12);
        assert_eq!(guests[0].backends, [FENTRY, KPROBE]);
        assert!(guests[0].is_whole);
    }
}
