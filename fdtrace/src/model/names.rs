//! Names of files, each kept once for all slots that have it.

use rustc_hash::FxHashMap;

/// A name in [`Names`]. The default is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NameId(u32);

/// The names of all files that are open, counted by the slots that use them.
#[derive(Debug, Default)]
pub struct Names {
    ids: FxHashMap<Box<[u8]>, u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Entry {
    name: Box<[u8]>,
    users: u32,
    /// How many names have had this place before.
    generation: u32,
}

impl Names {
    /// One more use of this name.
    pub fn take(&mut self, name: &[u8]) -> NameId {
        if name.is_empty() {
            return NameId::default();
        }
        if let Some(id) = self.ids.get(name) {
            self.entries[*id as usize].users += 1;
            return NameId(*id + 1);
        }
        let id = if let Some(id) = self.free.pop() {
            let entry = &mut self.entries[id as usize];
            (entry.name, entry.users) = (name.into(), 1);
            id
        } else {
            self.entries.push(Entry {
                name: name.into(),
                users: 1,
                generation: 0,
            });
            // As many names as slots at most, and those are far fewer than 2³².
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        };
        self.ids.insert(name.into(), id);
        NameId(id + 1)
    }

    /// Which of the names that have had its place a name is.
    #[must_use]
    pub fn generation(&self, id: NameId) -> u32 {
        let entry =
            id.0.checked_sub(1)
                .and_then(|id| self.entries.get(id as usize));
        entry.map_or(0, |entry| entry.generation)
    }

    /// One more use of a name, if that is still in use.
    #[must_use]
    pub fn take_again(&mut self, id: NameId, generation: u32) -> bool {
        match self.entry(id) {
            Some(entry) if entry.generation == generation => {
                entry.users += 1;
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    /// One more use of a name that is in use.
    #[must_use]
    pub fn share(&mut self, id: NameId) -> NameId {
        if let Some(entry) = self.entry(id) {
            entry.users += 1;
        }
        id
    }

    /// One use less; the name goes with the last one.
    pub fn give_back(&mut self, id: NameId) {
        let Some(entry) = self.entry(id) else {
            return;
        };
        entry.users -= 1;
        if entry.users == 0 {
            entry.generation = entry.generation.wrapping_add(1);
            let name = std::mem::take(&mut entry.name);
            self.ids.remove(&name);
            self.free.push(id.0 - 1);
        }
    }

    /// The name itself; hostile text.
    #[must_use]
    pub fn get(&self, id: NameId) -> &[u8] {
        let entry =
            id.0.checked_sub(1)
                .and_then(|id| self.entries.get(id as usize));
        entry.map_or(b"", |entry| &entry.name)
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Is no name in use?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn entry(&mut self, id: NameId) -> Option<&mut Entry> {
        self.entries.get_mut(id.0.checked_sub(1)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lives_as_long_as_its_last_user() {
        let mut names = Names::default();
        let one = names.take(b"one");
        assert_eq!(names.take(b"one"), one);
        assert_eq!(names.share(one), one);
        for users in [2, 1] {
            names.give_back(one);
            assert_eq!(names.get(one), b"one", "{users} users are left");
        }
        names.give_back(one);
        assert!(names.is_empty());
        let two = names.take(b"two");
        assert_eq!((names.get(two), names.entries.len()), (&b"two"[..], 1));
    }

    #[test]
    fn a_name_is_not_taken_again_when_another_one_has_its_place() {
        let mut names = Names::default();
        let one = names.take(b"one");
        let generation = names.generation(one);
        assert!(names.take_again(one, generation));
        names.give_back(one);
        names.give_back(one);
        assert!(!names.take_again(one, generation), "it is not in use");
        assert_eq!(names.take(b"two"), one, "the place is used again");
        assert!(!names.take_again(one, generation));
        assert_eq!(names.get(one), b"two");
        let empty = NameId::default();
        assert!(names.take_again(empty, names.generation(empty)));
    }

    #[test]
    fn the_empty_name_costs_nothing() {
        let mut names = Names::default();
        let nothing = names.take(b"");
        names.give_back(nothing);
        assert_eq!((names.get(nothing), names.len()), (&b""[..], 0));
    }
}
