//! When there are more changes than can be read: what is given up by choice, and when it is taken up
//! again.
//!
//! A second in which the ring was full is healed and forgotten. Where such seconds follow on each other,
//! healing never comes to an end and nothing at all is exact any more: then the tables near their limits
//! and those that grow are followed alone, and the others looked at now and then.

/// Seconds with losses, one after the other, that are too many.
const PATIENCE: u32 = 5;
/// Seconds in which everything could have been read, one after the other, that are enough.
const CALM: u32 = 3;
/// Seconds for which tables are given up at least.
const HOLD: u32 = 5;
/// The same where it has turned out too short again and again.
const HOLD_MAX: u32 = 300;
/// Seconds after which a hold was not too short.
const RELAPSE: u32 = 60;

/// What one second has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Second {
    /// Records that found the ring full.
    pub(super) lost: u64,
    /// Records read.
    pub(super) read: u64,
    /// Changes that were not told by choice.
    pub(super) shed: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Follow only some tables.
    Shed,
    /// Follow every table again.
    Resume,
}

/// The decision, second by second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shedding {
    is_on: bool,
    /// Seconds since the last order.
    since: u32,
    hold: u32,
    /// Seconds with losses, or those that were calm, up to now.
    row: u32,
    /// The most records that were read in a second with losses.
    capacity: u64,
}

impl Shedding {
    /// Are only some tables followed?
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Decides after each second.
    pub(super) fn decide(&mut self, second: Second) -> Option<Order> {
        self.since = self.since.saturating_add(1);
        if self.is_on {
            let could_be_read = (second.read + second.shed) * 2 <= self.capacity;
            self.row = if could_be_read { self.row + 1 } else { 0 };
            if self.row >= CALM && self.since >= self.hold {
                self.resume();
                return Some(Order::Resume);
            }
        } else if second.lost == 0 {
            (self.row, self.capacity) = (0, 0);
        } else {
            self.row += 1;
            self.capacity = self.capacity.max(second.read);
            if self.row >= PATIENCE {
                let is_relapse = self.hold > 0 && self.since < RELAPSE;
                self.hold = if is_relapse {
                    (self.hold * 2).min(HOLD_MAX)
                } else {
                    HOLD
                };
                (self.is_on, self.since, self.row) = (true, 0, 0);
                return Some(Order::Shed);
            }
        }
        None
    }

    /// Every table is followed again, whoever wants it.
    pub(super) fn resume(&mut self) {
        (self.is_on, self.since, self.row, self.capacity) = (false, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: Second = Second {
        lost: 10,
        read: 1000,
        shed: 0,
    };
    const QUIET: Second = Second {
        lost: 0,
        read: 400,
        shed: 0,
    };

    fn orders(shedding: &mut Shedding, seconds: &[Second]) -> Vec<(usize, Order)> {
        let decided = seconds
            .iter()
            .enumerate()
            .filter_map(|(index, second)| Some((index, shedding.decide(*second)?)));
        decided.collect()
    }

    #[test]
    fn only_lasting_losses_are_too_many() {
        let mut shedding = Shedding::default();
        let mut seconds = [FLOOD; 20];
        for quiet in seconds.iter_mut().step_by(5) {
            *quiet = QUIET;
        }
        assert_eq!(orders(&mut shedding, &seconds), []);
        assert_eq!(orders(&mut shedding, &[FLOOD; 1]), [(0, Order::Shed)]);
        assert!(shedding.is_on());
    }

    #[test]
    fn what_could_be_read_is_taken_up_again() {
        let mut shedding = Shedding::default();
        orders(&mut shedding, &[FLOOD; 5]);
        let still_too_many = Second {
            lost: 0,
            read: 1,
            shed: 500,
        };
        assert_eq!(orders(&mut shedding, &[still_too_many; 30]), []);
        assert_eq!(orders(&mut shedding, &[QUIET; 4]), [(2, Order::Resume)]);
        assert!(!shedding.is_on());
    }

    #[test]
    fn it_is_not_taken_up_before_its_time() {
        let mut shedding = Shedding::default();
        orders(&mut shedding, &[FLOOD; 5]);
        assert_eq!(orders(&mut shedding, &[QUIET; 6]), [(4, Order::Resume)]);
    }

    #[test]
    fn each_relapse_doubles_the_time() {
        let mut shedding = Shedding::default();
        let mut holds = Vec::new();
        for _ in 0..9 {
            assert_eq!(orders(&mut shedding, &[FLOOD; 5]), [(4, Order::Shed)]);
            let resumed = orders(&mut shedding, &[QUIET; 300]);
            holds.push(resumed[0].0 + 1);
            // What comes after the order is quiet; begin anew right after it.
            shedding.since = 0;
        }
        assert_eq!(holds, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        shedding.since = RELAPSE;
        orders(&mut shedding, &[FLOOD; 5]);
        assert_eq!(shedding.hold, HOLD);
    }
}
