//! Member paths as fdtrace writes them: `signal.rlim[7].rlim_cur`.

use super::error::BtfError;

/// One step of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Into the member of this name.
    Member(&'a str),
    /// To this element of an array.
    Index(u32),
}

impl std::fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(name) => f.write_str(name),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// The steps of `path`: members separated by dots, each with any number of `[index]` behind it.
pub(super) fn steps(path: &str) -> Result<Vec<Step<'_>>, BtfError> {
    let wrong = || BtfError::Path {
        path: path.to_owned(),
    };
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, mut indices) = part.split_at(part.find('[').unwrap_or(part.len()));
        if name.is_empty() || name.contains(']') {
            return Err(wrong());
        }
        steps.push(Step::Member(name));
        while !indices.is_empty() {
            let (index, rest) = indices
                .strip_prefix('[')
                .and_then(|inner| inner.split_once(']'))
                .ok_or_else(wrong)?;
            // `parse` alone would take a `+` too.
            if !index.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(wrong());
            }
            steps.push(Step::Index(index.parse().map_err(|_| wrong())?));
            indices = rest;
        }
    }
    Ok(steps)
}
