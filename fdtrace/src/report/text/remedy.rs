//! What to do: in the program, now, and for good.

use crate::{
    diagnose::{
        remedy::{Remedy, When},
        verdict::Kind,
    },
    report::{block::Block, page::STRONG},
};

/// The first of each.
///
/// Nothing in them steers a terminal, and nothing is escaped: commands are typed as they stand here.
pub(super) fn write(block: &mut Block, remedies: &[Remedy], verdict: Option<Kind>) {
    let labels = [
        ("fix", When::Code),
        ("now", When::Now),
        ("later", When::Permanent),
    ];
    // What the program could do as well comes last, and is for scripts.
    let is_in_code = remedies
        .first()
        .is_some_and(|remedy| remedy.when == When::Code);
    let has_now = remedies.iter().any(|remedy| remedy.when == When::Now);
    let labels = labels.into_iter().skip(usize::from(!is_in_code));
    for (label, when) in labels {
        let Some(remedy) = remedies.iter().find(|remedy| remedy.when == when) else {
            continue;
        };
        // Whoever has time to change the start has time to mend the program.
        if when == When::Permanent && verdict == Some(Kind::Leak) && has_now {
            block.say(label, "(nothing: a higher limit does not cure a leak)");
            continue;
        }
        match &remedy.command {
            Some(command) => {
                block.command(label, STRONG, command.as_str());
                block.say(label, remedy.text.as_str());
                if let Some(warning) = remedy.warning.as_deref().filter(|_| when == When::Now) {
                    block.call(label, STRONG, format!("before: {warning}"));
                }
            }
            None => block.say(label, remedy.text.as_str()),
        }
    }
}
