//! Means of a row, and what is done by them. Sums are taken in eight parts, which are computed side by side.

/// Returns the mean of what `of` makes of each number.
fn mean_of(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (blocks, rest) = row.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, number)| *sum += of(*number));
    }
    let rest = rest.iter().map(|number| of(*number));
    sums.into_iter().chain(rest).sum::<f32>() / row.len() as f32
}

/// Returns the mean of the squares.
pub(super) fn mean_square(row: &[f32]) -> f32 {
    mean_of(row, |number| number * number)
}

/// Leaves of a row what is so many standard deviations above its mean.
pub(super) fn cut(row: &mut [f32], deviations: f32) {
    let mean = mean_of(row, |number| number);
    let deviation = mean_of(row, |number| (number - mean) * (number - mean)).sqrt();
    let cutoff = mean + deviation * deviations;
    row.iter_mut().for_each(|number| *number = (*number - cutoff).max(0.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_cutoff_is_left() {
        let mut row: Vec<f32> = (0..11).map(|number| number as f32).collect();
        assert_eq!(mean_square(&row), 35.0);
        // The mean is 5, the standard deviation the root of 10.
        cut(&mut row, 1.0);
        let left = |number: usize| (number as f32 - 5.0 - 10f32.sqrt()).max(0.0);
        assert!(row.iter().enumerate().all(|(at, number)| (number - left(at)).abs() < 1e-5), "{row:?}");
    }
}
