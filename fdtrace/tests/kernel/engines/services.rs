//! Verdicts: a service leaks or is busy, whoever looks at it.

use std::{thread, time::Duration};

use fdtrace::{
    diagnose::{
        diagnosis::{Diagnosis, Patient},
        verdict::Verdict,
    },
    engine::Engine,
    joined::{Joined, Look},
    stream::clock::Clock,
};

use super::{Both, runtime};
use crate::{
    Setting, ensure,
    gym::{Facts, Gym},
    verdicts::TOGETHER,
};

/// Both engines look once in it.
const SECOND: Duration = Duration::from_secs(1);

/// Ten services under both engines, each of which looks once a second: the same verdict, and the same growth.
pub(super) fn same_verdicts(setting: &Setting) -> Result<(), String> {
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let mut both = Both::start(setting).map_err(|error| format!("{error:#}"))?;
    let mut joined = Joined::default();
    let mut wrong = Vec::new();
    for together in TOGETHER {
        let none: &[&str] = &[];
        let mut services = Vec::new();
        for name in together {
            services.push((name, Gym::waiting(name, none)?.0));
        }
        for (_, service) in &mut services {
            service.release()?;
        }
        let told = thread::scope(|scope| {
            let waiting: Vec<_> = services
                .iter_mut()
                .map(|(name, service)| (*name, scope.spawn(|| service.held())))
                .collect();
            let mut outcome = Ok(());
            while waiting.iter().any(|(_, thread)| !thread.is_finished()) {
                outcome = outcome.and(both.second(&mut joined));
                thread::sleep(SECOND);
            }
            outcome?;
            let facts = waiting.into_iter().map(|(name, thread)| {
                let facts = thread.join().map_err(|_| "a panic".to_owned())??;
                Ok((name, facts))
            });
            facts.collect::<Result<Vec<_>, String>>()
        })?;
        both.second(&mut joined)?;
        for (name, facts) in told {
            if let Err(difference) = both.same_verdict(&joined, &facts) {
                wrong.push(format!("{name}: {difference}"));
            }
        }
        for (name, service) in services {
            service.end().map_err(|error| format!("{name}: {error}"))?;
        }
    }
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

impl Both {
    /// A second has gone by.
    fn second(&mut self, joined: &mut Joined) -> Result<(), String> {
        self.drain();
        let look = Look::read(&mut self.session, &self.slots, &self.misses);
        let look = look.map_err(|error| format!("{error:#}"))?;
        self.drain();
        self.tracker
            .look_at_limits(look.tasks.clone(), &mut self.openers);
        self.tracker.second(Clock::System.now_ns());
        joined.take(look);
        Ok(())
    }

    fn same_verdict(&self, joined: &Joined, facts: &Facts) -> Result<(), String> {
        let pid = u32::try_from(facts.pid).map_err(|error| error.to_string())?;
        let task = joined.limit_of(pid).ok_or("no such process")?;
        let now_ns = Clock::System.now_ns();
        let verdict = |engine: &dyn Engine| {
            let diagnosis = Diagnosis::of(Patient::of_task(task), engine, now_ns)?;
            diagnosis.verdict
        };
        let (Some(replayed), Some(looked)) = (verdict(self.tracker.engine()), verdict(joined))
        else {
            return Err("no verdict".to_owned());
        };
        println!(
            "{:?} by records {replayed:?}, by looks {looked:?}",
            facts.pid
        );
        let growth = |verdict: &Verdict| verdict.growth_per_min.unwrap_or_default();
        let (one, other) = (growth(&replayed), growth(&looked));
        let is_same = replayed.kind == looked.kind && (one - other).abs() <= 0.3 * one.max(other);
        ensure(is_same, || {
            format!("by records {replayed:?}, by looks {looked:?}")
        })
    }
}
