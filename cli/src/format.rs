//! Numbers as people write them.

/// Bits per second: `100M`, `1.5G`, `64k`, `unlimited`.
pub(crate) fn rate(bps: u64) -> String {
    if bps == 0 {
        return "unlimited".to_owned();
    }
    for (unit, suffix) in [(1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")] {
        if bps >= unit && bps.is_multiple_of(unit / 10) {
            let (whole, tenth) = (bps / unit, bps % unit / (unit / 10));
            return if tenth == 0 {
                format!("{whole}{suffix}")
            } else {
                format!("{whole}.{tenth}{suffix}")
            };
        }
    }
    bps.to_string()
}

/// Reads what [`rate`] writes.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a rate such as 100M, 1.5G, 64k, 8000 or unlimited");
    if text.eq_ignore_ascii_case("unlimited") {
        return Ok(0);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1000,
        "m" | "M" => 1_000_000,
        "g" | "G" => 1_000_000_000,
        _ => return Err(bad()),
    };
    let (whole, tenth) = match digits.split_once('.') {
        Some((_, "")) => return Err(bad()),
        Some((whole, tenth)) if tenth.len() == 1 && unit > 1 => {
            (whole, tenth.parse::<u64>().map_err(|_| bad())?)
        }
        Some(_) => return Err(bad()),
        None => (digits, 0),
    };
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    whole.checked_mul(unit).and_then(|n| n.checked_add(tenth * (unit / 10))).ok_or_else(bad)
}

/// Seconds since 1970 as RFC 3339, in UTC.
pub(crate) fn time(s: u64) -> String {
    let (days, rest) = (s / 86_400, s % 86_400);
    // Days since 0000-03-01, so that the leap day ends a year; 400 years have 146,097 days.
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March
    let d = day - (153 * month + 2) / 5 + 1;
    let m = if month < 10 { month + 3 } else { month - 9 };
    let y = era * 400 + year + u64::from(m <= 2);
    let (h, min, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}Z")
}

/// A value that may be unknown.
pub(crate) fn maybe<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

/// `yes` or `no`.
pub(crate) fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_survives_text() {
        let rows = [
            (0, "unlimited"),
            (1, "1"),
            (999, "999"),
            (1000, "1k"),
            (64_000, "64k"),
            (1_500_000, "1.5M"),
            (1_550_000, "1550k"),
            (100_000_000, "100M"),
            (2_500_000_000, "2.5G"),
            (1_000_000_000_000, "1000G"),
        ];
        for (bps, text) in rows {
            assert_eq!(rate(bps), text);
            assert_eq!(parse_rate(text), Ok(bps));
        }
        for bad in ["", "M", "1.M", "1.55M", "1.5", "-1", "10Mbit", "99999999999999G", "1 M", "ä"]
        {
            assert!(parse_rate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_is_that_of_the_calendar() {
        let rows = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (s, text) in rows {
            assert_eq!(time(s), text);
        }
    }
}
