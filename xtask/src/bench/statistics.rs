//! One figure out of several.

/// The one in the middle, or between the two in the middle; `None` of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[middle - 1], upper))
}

/// The ratios of values that were taken one right after the other.
pub(crate) fn ratios(dividends: &[f64], divisors: &[f64]) -> Vec<f64> {
    let pairs = dividends
        .iter()
        .zip(divisors)
        .filter(|(_, divisor)| **divisor > 0.0);
    pairs
        .map(|(dividend, divisor)| dividend / divisor)
        .collect()
}

/// Where the true median lies, with at least 93 % certainty whatever the values' distribution: between the
/// second and the last but one of nine values or more, between the outermost of five or more. Fewer say nothing.
pub(crate) fn range(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let left_out = match values.len() {
        0..5 => return None,
        5..9 => 0,
        _ => 1,
    };
    Some((values[left_out], values[values.len() - 1 - left_out]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 100.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn a_pair_is_compared_with_itself_only() {
        // The machine was slow for the second pair, which says nothing about either.
        assert_eq!(ratios(&[1.0, 10.0, 1.1], &[2.0, 20.0, 2.2]), [0.5; 3]);
        assert!(ratios(&[1.0], &[]).is_empty());
    }

    #[test]
    fn a_few_outliers_do_not_widen_the_range_of_many() {
        assert_eq!(range(vec![1.0; 4]), None);
        assert_eq!(range(vec![3.0, 1.0, 2.0, 9.0, 2.0]), Some((1.0, 9.0)));
        let many = vec![0.1, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 90.0];
        assert_eq!(range(many), Some((2.0, 8.0)));
    }
}
