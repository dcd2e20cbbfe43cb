//! `meter`: runs loads that time themselves, alone and beside tracers, in one boot of a guest.
//!
//! `meter PLAN` takes the plan as JSON, and prints the figures, a line of JSON each.

mod plan;
mod tracer;

use std::{
    env,
    io::{self, Write as _},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    plan::{Line, Load, Plan, Ready, Tracer},
    tracer::Running,
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meter: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let plan = env::args().nth(1).context("usage: meter PLAN")?;
    let plan: Plan = serde_json::from_str(&plan).context("this is no plan")?;
    for _ in 0..plan.rounds {
        for tracer in &plan.tracers {
            // The figures of the others stand.
            if let Err(error) = measure(tracer, &plan.loads) {
                tell(&Line::Failed {
                    tracer: tracer.name.clone(),
                    reason: format!("{error:#}"),
                })?;
            }
        }
    }
    Ok(())
}

fn measure(tracer: &Tracer, loads: &[Load]) -> Result<()> {
    let running = match tracer.ready {
        Ready::Untraced | Ready::Around => None,
        _ => Some(Running::start(tracer)?),
    };
    if let Some(running) = &running {
        tell(&Line::Start {
            tracer: tracer.name.clone(),
            ns: u64::try_from(running.start_took.as_nanos())?,
        })?;
    }
    let around = match tracer.ready {
        Ready::Around => tracer.command.as_slice(),
        _ => &[],
    };
    for load in loads
        .iter()
        .filter(|load| tracer.loads.contains(&load.name))
    {
        let (ns, operations) = time(around, load)?;
        tell(&Line::Load {
            tracer: tracer.name.clone(),
            load: load.name.clone(),
            ns,
            operations,
        })?;
    }
    if let Some(mut running) = running {
        tell(&Line::Memory {
            tracer: tracer.name.clone(),
            resident: running.resident()?,
        })?;
        running.stop()?;
    }
    Ok(())
}

/// Nanoseconds and operations, by the load's own account.
fn time(around: &[String], load: &Load) -> Result<(u64, u64)> {
    let words = [around, &load.command].concat();
    let (program, arguments) = words.split_first().context("an empty command")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let facts: Option<Value> = said
        .lines()
        .find_map(|line| serde_json::from_str(line).ok());
    let number = |name: &str| facts.as_ref()?[name].as_u64();
    let figures = number("ns").zip(number("operations"));
    match figures {
        Some(figures) if output.status.success() => Ok(figures),
        _ => bail!("{} ended with {}: {said}", load.name, output.status),
    }
}

fn tell(line: &Line) -> Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(line)?)?;
    Ok(output.flush()?)
}
