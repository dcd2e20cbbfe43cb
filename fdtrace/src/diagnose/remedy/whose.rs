//! Where the limit comes from is where it is changed: there is no other way that takes effect. Programs that have
//! sized themselves by it at their start take less of a higher one, or none.

use super::{Remedy, Situation, When, harmless, lasting, limit::Raise};
use crate::diagnose::{
    origin::{Ancestor, Origin, Whose},
    programs::{Effect, Program},
    starter::Starter,
};

/// For the process as it runs; words where typing it would change nothing, or do harm.
pub(super) fn now(raise: Raise, situation: &Situation) -> Remedy {
    let Some(program) = situation.known_program() else {
        return raise.now(situation);
    };
    let nothing = |begin: &str, end: &str| {
        let setting = setting(program, raise.soft);
        Remedy::words(
            When::Now,
            format!("{begin}: {}{end}; {setting}", program.at_start),
        )
    };
    match program.effect {
        Effect::UpToOwn if !situation.is_exhausted => nothing("raising it now changes nothing", ""),
        Effect::UpToHard => match raise.below_hard(situation) {
            Some(raise) => raise.now(situation),
            None => nothing("do not raise it now", ", and none beyond"),
        },
        Effect::Whole | Effect::Part | Effect::UpToOwn => {
            let mut remedy = raise.now(situation);
            remedy.text = format!("{}; {}", remedy.text, program.at_start);
            remedy
        }
    }
}

/// From the next start on.
pub(super) fn for_good(raise: Raise, situation: &Situation) -> Vec<Remedy> {
    let limit = lasting::Limit::files(raise.soft, raise.hard, situation.hard);
    let of_place = || lasting::remedies(&limit, situation);
    let program = situation.known_program();
    let of_program = |why: &str| {
        let words = program.map(|program| format!("{}{why}", setting(program, raise.soft)));
        words.map(|words| Remedy::words(When::Permanent, words))
    };
    let whose = situation.whose;
    let origin = whose.map_or(Origin::Unknown, |whose| whose.origin);
    let mut remedies = Vec::new();
    match (origin, whose.and_then(|whose| whose.starter.as_ref())) {
        (Origin::Own, _) if program.is_some_and(|program| program.sets_limit) => {
            remedies.extend(of_program(
                ": it sets its own limit, and a higher one from its unit or parent changes nothing",
            ));
            if is_above_parents(raise, situation) {
                remedies.extend(of_place());
            }
            return remedies;
        }
        (Origin::Own, _) => {
            remedies.push(by_itself(&limit, raise, situation));
            if is_above_parents(raise, situation) && situation.uid != 0 {
                remedies.extend(of_place());
            }
        }
        (Origin::Parent, Some(starter)) => {
            let known = whose.and_then(Whose::known_starter);
            remedies.push(by_starter(&limit, raise, starter, known));
            let place = situation.place;
            if known.is_none() && (place.container.is_some() || place.pod.is_some()) {
                remedies.extend(of_place());
            }
        }
        (Origin::Unit, Some(manager)) if !is_of_place(situation) => {
            remedies.push(by_manager(&limit, situation, manager));
        }
        _ => remedies.extend(of_place()),
    }
    remedies.extend(of_program(""));
    // Its own setting counts most where a limit alone does nothing.
    if program.is_some_and(|program| program.effect == Effect::UpToOwn) {
        remedies.rotate_right(1);
    }
    remedies
}

/// Whoever sets its own limit can go as far as its parent's hard one, unless it is root.
fn is_above_parents(raise: Raise, situation: &Situation) -> bool {
    let parent = situation
        .whose
        .and_then(|whose| whose.parent.as_ref()?.limits);
    parent.is_some_and(|parent| raise.soft > parent.hard)
}

fn setting(program: &Program, soft: u64) -> String {
    program.setting.replace("{soft}", &soft.to_string())
}

/// Is the unit that gives the limit the one that the process is in as the host calls it? In a container with a service
/// manager of its own it is not.
fn is_of_place(situation: &Situation) -> bool {
    let unit = situation.whose.and_then(|whose| whose.unit.as_ref());
    unit.is_none_or(|unit| {
        let names = [&situation.place.unit, &situation.place.user_unit];
        names.contains(&&Some(unit.name.clone()))
    })
}

/// The unit of a service manager in a container.
fn by_manager(limit: &lasting::Limit, situation: &Situation, manager: &Ancestor) -> Remedy {
    let unit = situation.whose.and_then(|whose| whose.unit.as_ref());
    let name = unit.map_or("its unit", |unit| &unit.name);
    let name = harmless(name).unwrap_or("its unit");
    let text = format!(
        "{} in a drop-in for {name}, where its service manager ({}) sees it, then restart it there",
        limit.line(),
        manager.pid
    );
    Remedy::words(When::Permanent, text)
}

/// A program of which nothing is known but that its parent has another limit.
fn by_itself(limit: &lasting::Limit, raise: Raise, situation: &Situation) -> Remedy {
    let program = situation.program();
    let shell = in_shell(limit);
    let text = format!(
        "in {program}, or in the script that execs it: setrlimit to {}, or {shell}; a limit from its unit or parent \
         changes nothing",
        raise.soft
    );
    Remedy::words(When::Permanent, text)
}

/// A soft limit can be set up to the hard one; above, that comes first, and takes root.
fn in_shell(limit: &lasting::Limit) -> String {
    if limit.is_above() {
        format!(
            "{} as root and then {}",
            limit.hard_in_shell(),
            limit.in_shell()
        )
    } else {
        limit.in_shell()
    }
}

/// Whoever has the limit, and passes it on.
fn by_starter(
    limit: &lasting::Limit,
    raise: Raise,
    starter: &Ancestor,
    known: Option<&Starter>,
) -> Remedy {
    let comm = harmless(&starter.comm).unwrap_or("its starter");
    let named = format!("{comm} ({})", starter.pid);
    let text = match known {
        Some(known) if known.is_shell => {
            let script = starter.script.as_deref().and_then(harmless);
            let at = match script.filter(|script| !script.starts_with('-')) {
                Some(script) => format!("in {script}, which the shell {named} runs"),
                None => format!("in the shell {named}"),
            };
            let first = if limit.is_above() {
                format!("{} comes first: ", limit.present())
            } else {
                String::new()
            };
            format!(
                "{first}{} before the program is started, {at}",
                in_shell(limit)
            )
        }
        Some(known) => known.change.replace("{soft}", &raise.soft.to_string()),
        None => {
            let first = if limit.is_above() {
                format!(
                    "; {} comes first, for which it takes CAP_SYS_RESOURCE (root's)",
                    limit.present()
                )
            } else {
                String::new()
            };
            format!(
                "{named} has this limit and passes it on: raise it to {} where that is started{first}",
                raise.soft
            )
        }
    };
    Remedy::words(When::Permanent, text)
}
