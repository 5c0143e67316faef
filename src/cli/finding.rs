//! How findings of a check are printed: a few lines for people, one JSON object on one line for programs.

use serde::Serialize;
use serde_json::{Value, json};

use super::output::printable;
use crate::store::check::finding::{ByteRange, Finding};

/// Ranges shown of one finding; the rest is counted.
const SHOWN: usize = 8;

#[derive(Debug, Serialize)]
struct JsonRange {
    start: u64,
    end: u64,
}

fn json_ranges(ranges: &[ByteRange]) -> Vec<JsonRange> {
    let range = |r: &ByteRange| JsonRange {
        start: r.start,
        end: r.end,
    };
    ranges.iter().map(range).collect()
}

/// A path as text: what is no text, and what would move the cursor, is escaped.
pub fn shown(path: &[u8]) -> String {
    path.utf8_chunks().fold(String::new(), |text, chunk| {
        let bad = chunk.invalid().iter().map(|b| format!("\\x{b:02x}"));
        text + &printable(chunk.valid()) + &bad.collect::<String>()
    })
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// One JSON object.
pub fn json(finding: &Finding) -> Value {
    let mut object = json!({
        "finding": finding.state.name(),
        "what": finding.subject.name(),
        "path": lossy(&finding.path),
        "stored": lossy(&finding.stored),
        "ranges": json_ranges(&finding.ranges),
        "detail": finding.detail,
    });
    if finding.path.is_empty() {
        object["path"] = Value::Null;
    }
    if !finding.gaps.is_empty() {
        object["gaps"] = json!(json_ranges(&finding.gaps));
    }
    object
}

/// A few lines, the first with the path in the mount, the last with that in the vault.
pub fn text(finding: &Finding) -> String {
    let (state, what) = (finding.state.name(), finding.subject.name());
    let stored = shown(&finding.stored);
    let mut text = match finding.path.is_empty() {
        true => format!("{state}: {what} {stored}\n  {}\n", finding.detail),
        false => format!(
            "{state}: {what} {}\n  {}\n",
            shown(&finding.path),
            finding.detail
        ),
    };
    if !finding.ranges.is_empty() {
        text += &format!("  bytes {}\n", ranges(&finding.ranges));
    }
    if !finding.path.is_empty() {
        text += &format!("  stored as {stored}\n");
    }
    text
}

/// The gaps of a salvaged file, as the report in the salvage directory has them.
pub fn gaps(finding: &Finding) -> Option<String> {
    let path = shown(&finding.path);
    match (&finding.gaps[..], finding.path.is_empty()) {
        (_, true) => None,
        ([], _) => Some(format!("{path}\n  {}\n", finding.detail)),
        (gaps, _) => Some(format!(
            "{path}\n  {}\n  missing: bytes {}\n",
            finding.detail,
            all_ranges(gaps)
        )),
    }
}

/// First and last byte of each, both included.
fn ranges(ranges: &[ByteRange]) -> String {
    match ranges.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more ranges", all_ranges(&ranges[..SHOWN])),
        _ => all_ranges(ranges),
    }
}

fn all_ranges(ranges: &[ByteRange]) -> String {
    let one = |r: &ByteRange| match r.end - r.start {
        1 => r.start.to_string(),
        _ => format!("{}-{}", r.start, r.end - 1),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_told_by_their_first_and_last_byte() {
        let range = |start, end| ByteRange { start, end };
        assert_eq!(ranges(&[range(0, 4096), range(9000, 9001)]), "0-4095, 9000");
        let many: Vec<ByteRange> = (0..10).map(|i| range(i * 10, i * 10 + 2)).collect();
        assert!(ranges(&many).ends_with("70-71 and 2 more ranges"));
    }

    #[test]
    fn a_name_cannot_send_control_sequences_to_the_terminal() {
        assert_eq!(shown(b"a\x1b[2J\n\xff/b"), "a\\u{1b}[2J\\n\\xff/b");
    }
}
