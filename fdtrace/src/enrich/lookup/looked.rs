//! What was looked up of processes, in the form that a recording has.

use serde::{Deserialize, Serialize};

use crate::{
    diagnose::{origin::Lineage, select::Select},
    enrich::names::Named,
};

/// Answers of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Whose processes they are, and where they belong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<LookedProcess>,
    /// Full paths of open files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<LookedPath>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedProcess {
    /// Which one.
    pub pid: u32,
    /// Its effective user.
    pub uid: Option<u32>,
    /// Its v2 cgroup. Hostile text.
    pub cgroup: Option<Text>,
    /// When it was found to have ended, nanoseconds since boot; `None`: it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ns: Option<u64>,
    /// What its container and its pod are called.
    #[serde(default, skip_serializing_if = "Named::is_nothing")]
    pub named: Named,
    /// Who is above it, where somebody wanted to know whose its limit is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// Whether it uses select(2), where somebody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<Select>,
}

/// A path, and who has the file open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedPath {
    /// As /proc has it: that of a deleted file says so. Hostile text.
    pub path: Text,
    /// Processes, each with the file's inode number.
    pub files: Vec<(u32, u64)>,
}

/// Bytes that nearly always are text, and are written as such where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Text(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<Text> for Written {
    fn from(Text(bytes): Text) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
    }
}

impl From<Written> for Text {
    fn from(written: Written) -> Self {
        Self(match written {
            Written::Text(text) => text.into_bytes(),
            Written::Bytes(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_and_text_is_written_as_text() {
        for (bytes, json) in [
            (&b"/a/b"[..], r#""/a/b""#),
            (b"\xff\"", "[255,34]"),
            (b"", r#""""#),
            ("ä\n".as_bytes(), r#""ä\n""#),
        ] {
            let text = Text(bytes.to_vec());
            assert_eq!(serde_json::to_string(&text).unwrap(), json);
            assert_eq!(serde_json::from_str::<Text>(json).unwrap(), text);
        }
    }
}
