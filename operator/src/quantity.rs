//! Kubernetes quantities (`1Gi`, `500m`), as far as comparing them needs.

/// The quantity in thousandths of its unit, rounded up; `None` if it is none, or larger than any real one.
pub fn milli(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (numerator, denominator) = scale(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || number.len() > 19 {
        return None;
    }
    let places = u32::try_from(fraction.len()).ok()?;
    let value: i128 = format!("{whole}{fraction}").parse().ok()?;
    let dividend = value.checked_mul(1_000)?.checked_mul(numerator)?;
    let divisor = denominator.checked_mul(10_i128.checked_pow(places)?)?;
    Some(dividend.div_euclid(divisor) + i128::from(dividend.rem_euclid(divisor) != 0))
}

/// Whether two texts mean the same quantity.
pub fn same(a: &str, b: &str) -> bool {
    a == b || matches!((milli(a), milli(b)), (Some(a), Some(b)) if a == b)
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10_i128.checked_pow(power.min(30))?, 1)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_written_differently_is_the_same() {
        for (a, b) in [("1Gi", "1024Mi"), ("1", "1000m"), ("0.5", "500m"), ("1e3", "1k"), ("1.5Gi", "1536Mi")]
        {
            assert!(same(a, b), "{a} {b}");
        }
        for (a, b) in [("1Gi", "1G"), ("1", "1001m"), ("x", "y"), ("1Qi", "1")] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn order_follows_the_amount() {
        assert!(milli("1Gi") < milli("2G"));
        assert!(milli("999Mi") < milli("1Gi"));
        assert_eq!(milli(""), None);
        assert_eq!(milli("Gi"), None);
        assert_eq!(milli("1.2.3"), None);
    }
}
