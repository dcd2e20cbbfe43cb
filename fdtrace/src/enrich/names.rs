//! What containers and pods are called, as far as files of this host tell: never a socket, never the network.
//!
//! The files belong to root. What they say may still come from whoever has named a container.

mod files;

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::ground::place::Place;
use crate::timers::Timer;

/// Names; text is hostile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The container's.
    pub container: Option<String>,
    /// The pod's.
    pub pod: Option<String>,
    /// The namespace that the pod is in.
    pub namespace: Option<String>,
}

impl Named {
    /// Is nothing known?
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.container.is_none() && self.pod.is_none()
    }
}

/// So many answers are kept, the oldest ones go first.
const KEPT: usize = 512;
/// A container can be renamed.
const FRESH: Timer = Timer::seconds(60);
/// One that has just started may have no files yet.
const FRESH_NOTHING: Timer = Timer::seconds(10);

/// A pod's uid and a container's id.
type Key = (Option<String>, Option<String>);

/// Looks names up, and remembers the answers, also that there was none.
pub struct Names {
    root: PathBuf,
    known: HashMap<Key, (Instant, Named)>,
    order: VecDeque<Key>,
}

impl Default for Names {
    fn default() -> Self {
        Self::below(PathBuf::from("/"))
    }
}

impl Names {
    /// With another root folder.
    #[must_use]
    pub fn below(root: PathBuf) -> Self {
        Self {
            root,
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// What the container and the pod of a place are called. Reads files, at most once in a while for
    /// each place.
    pub fn of(&mut self, place: &Place) -> Named {
        if place.container.is_none() && place.pod.is_none() {
            return Named::default();
        }
        let id = place
            .container
            .as_ref()
            .map(|container| container.id.clone());
        let key = (place.pod.clone(), id);
        if let Some((time, named)) = self.known.get(&key) {
            let fresh = if named.is_nothing() {
                FRESH_NOTHING
            } else {
                FRESH
            };
            if time.elapsed() < fresh.duration() {
                return named.clone();
            }
        }
        let named = files::look(&self.root, place);
        self.keep(key, named.clone());
        named
    }

    fn keep(&mut self, key: Key, named: Named) {
        let answer = (Instant::now(), named);
        if self.known.insert(key.clone(), answer).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
