//! Sizes as people type them: `4096`, `64M`, `1G`, `4KiB`. Units are binary.

/// Bytes. A bare number counts bytes; K, M and G count in steps of 1024, with or without `B` or `iB`.
pub fn parse(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if digits == 0 {
        return Err("a size begins with a number, as in 64M".to_owned());
    }
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => {
            return Err(format!(
                "'{unit}' is not a unit; use K, M or G (64M is 64 MiB)"
            ));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "this size is too large".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "this size is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary_and_their_spelling_is_free() {
        for (text, bytes) in [
            ("4096", 4096),
            ("4K", 4096),
            ("4kib", 4096),
            ("64M", 64 << 20),
            ("1G", 1 << 30),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for text in [
            "",
            "M",
            "-1",
            "1.5G",
            "1T",
            "64 M",
            "99999999999999999999",
            "17179869184G",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
