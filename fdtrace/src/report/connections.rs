//! The states of the connections of a group, in words.

use crate::{
    diagnose::holders::Holder,
    ground::{kind::Kind, tcp_state::TcpState},
};

/// States told of a group; the others are counted.
const STATES: usize = 3;
/// What `CLOSE_WAIT` means, and whose fault it is.
const HUNG_UP: &str = "the other end has closed, this process has not";

/// What the connections lead to, and how they are; `None` where no state is known.
#[must_use]
pub(super) fn words(holder: &Holder, target: Option<&str>) -> Option<String> {
    let (most, count) = *holder.states.first()?;
    // Other sockets are connected or listen, and nobody asks which.
    let has_hung_up = holder
        .states
        .iter()
        .any(|(state, _)| *state == TcpState::CLOSE_WAIT);
    if holder.kind != Kind::Tcp && !has_hung_up {
        return None;
    }
    let all: u32 = holder.states.iter().map(|(_, count)| count).sum();
    let name = |state: TcpState| match holder.kind {
        Kind::Tcp => state.in_capitals().to_owned(),
        // They have their states by the same numbers, and no names that anybody knows.
        _ if state == TcpState::CLOSE_WAIT => "closed by the other end".to_owned(),
        _ => state.name().to_owned(),
    };
    let states = if let Some(state) = holder.state() {
        name(state)
    } else {
        let told = holder.states.iter().take(STATES);
        let mut told: Vec<_> = told
            .map(|(state, count)| format!("{count} {}", name(*state)))
            .collect();
        let others: u32 = holder
            .states
            .iter()
            .skip(STATES)
            .map(|(_, count)| count)
            .sum();
        told.extend((others > 0).then(|| format!("{others} others")));
        told.join(", ")
    };
    // Said of what is mostly so.
    let is_hung_up = most == TcpState::CLOSE_WAIT && count > all / 2 && holder.kind == Kind::Tcp;
    Some(match target {
        Some(target) if is_hung_up && holder.state().is_some() => {
            format!("{states} to {target}: {HUNG_UP}")
        }
        Some(target) if is_hung_up => format!("{target} ({states}): {HUNG_UP}"),
        Some(target) => format!("{target} ({states})"),
        None => format!("({states})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: Kind, target: Option<&str>, states: &[(u32, u32)]) -> Option<String> {
        let states = states
            .iter()
            .map(|(state, count)| (TcpState::new(*state).unwrap(), *count));
        let holder = Holder {
            kind,
            target: None,
            states: states.collect(),
            targets: 1,
            count: 111,
            inodes: 111,
            inherited: 0,
            oldest_ns: None,
            newest_ns: None,
            example: (0, 0),
            files: Vec::new(),
            folders: None,
            openers: Vec::new(),
        };
        words(&holder, target)
    }

    #[test]
    fn who_has_not_closed_is_told() {
        let to = Some("10.0.0.3:8080");
        assert_eq!(
            told(Kind::Tcp, to, &[(8, 111)]).unwrap(),
            "CLOSE_WAIT to 10.0.0.3:8080: the other end has closed, this process has not"
        );
        assert_eq!(
            told(Kind::Tcp, to, &[(8, 100), (1, 11)]).unwrap(),
            "10.0.0.3:8080 (100 CLOSE_WAIT, 11 ESTABLISHED): the other end has closed, this process has not"
        );
        assert_eq!(
            told(Kind::Tcp, to, &[(1, 100), (8, 11)]).unwrap(),
            "10.0.0.3:8080 (100 ESTABLISHED, 11 CLOSE_WAIT)"
        );
    }

    #[test]
    fn a_state_is_told_wherever_it_is_known() {
        let clients = Some("clients of *:80");
        assert_eq!(told(Kind::Tcp, clients, &[]), None);
        assert_eq!(
            told(Kind::Tcp, clients, &[(1, 5)]).unwrap(),
            "clients of *:80 (ESTABLISHED)"
        );
        assert_eq!(told(Kind::Tcp, None, &[(2, 5)]).unwrap(), "(SYN_SENT)");
        assert_eq!(
            told(
                Kind::Tcp,
                clients,
                &[(1, 5), (2, 4), (3, 3), (4, 2), (5, 1)]
            )
            .unwrap(),
            "clients of *:80 (5 ESTABLISHED, 4 SYN_SENT, 3 SYN_RECV, 3 others)"
        );
        assert_eq!(
            told(Kind::Unix, Some("/run/x"), &[(8, 5)]).unwrap(),
            "/run/x (closed by the other end)"
        );
    }
}
