//! Where sockets lead to, as far as somebody has looked: by inode, which no two sockets share.

use super::{held::Ends, newest::Newest, tables::slot::Slot};

/// The ends that are known.
#[derive(Debug, Default)]
pub struct Sockets {
    by_inode: Newest<u64, Vec<u8>>,
}

impl Sockets {
    /// Somebody has looked. The text is hostile.
    pub fn take(&mut self, ends: impl IntoIterator<Item = (u64, Vec<u8>)>) {
        for (inode, end) in ends {
            self.by_inode.insert(inode, end);
        }
    }

    /// Where one leads to.
    #[must_use]
    pub fn end(&self, inode: u64) -> Option<&[u8]> {
        self.by_inode.get(&inode).map(Vec::as_slice)
    }

    /// Where those among these slots lead to.
    #[must_use]
    pub fn ends(&self, slots: impl Iterator<Item = (u32, Slot)>) -> Ends {
        let sockets = slots.filter(|(_, slot)| slot.kind.has_end());
        let known = sockets.filter_map(|(fd, slot)| Some((fd, self.end(slot.inode)?.to_vec())));
        known.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kind::Kind;

    #[test]
    fn ends_belong_to_sockets_of_that_inode() {
        let mut sockets = Sockets::default();
        sockets.take([(7, b"10.0.0.1:80".to_vec())]);
        let slot = |kind, inode| Slot {
            inode,
            kind,
            ..Slot::default()
        };
        let slots = [
            (3, slot(Kind::Tcp, 7)),
            (4, slot(Kind::File, 7)),
            (5, slot(Kind::Tcp, 8)),
        ];
        let ends = sockets.ends(slots.into_iter());
        assert_eq!(ends.len(), 1);
        assert_eq!(ends.get(&3).map(Vec::as_slice), Some(&b"10.0.0.1:80"[..]));
    }
}
