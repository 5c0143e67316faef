//! What a verb prints on standard output: text for people, or one JSON object for programs.

use std::io::{self, Write};

use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;

/// Prints `text`, which ends in a newline. A reader that has gone away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::io("write the output", &e)),
        _ => Ok(()),
    }
}

/// Prints one JSON value on lines of its own.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot write JSON: {e}")))?;
    print(&(text + "\n"))
}

/// Label and value in two columns.
pub fn rows(rows: &[(&str, String)]) -> String {
    rows.iter()
        .map(|(label, value)| format!("  {label:<12} {value}\n"))
        .collect()
}

/// Seconds since 1970 as ISO 8601 in UTC.
pub fn iso_time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("@{seconds}"), |time| time.to_string())
}

/// Text that nobody has verified must not move the cursor.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// Bytes in the largest binary unit that divides them.
pub fn binary_size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_send_control_sequences_to_the_terminal() {
        assert_eq!(printable("Röntgen \u{1b}[2J\n"), "Röntgen \\u{1b}[2J\\n");
    }

    #[test]
    fn times_are_iso_8601_in_utc() {
        assert_eq!(iso_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso_time(1_709_164_799), "2024-02-28T23:59:59Z");
        assert_eq!(iso_time(-1), "1969-12-31T23:59:59Z");
        assert_eq!(iso_time(i64::MAX), "@9223372036854775807");
    }

    #[test]
    fn sizes_use_the_largest_unit_that_divides_them() {
        assert_eq!(binary_size(1 << 30), "1 GiB");
        assert_eq!(binary_size(3 << 19), "1536 KiB");
        assert_eq!(binary_size(4097), "4097 bytes");
        assert_eq!(binary_size(0), "0 bytes");
    }
}
