//! Latencies in logarithmic buckets, as HDR histograms do: constant memory, a bounded relative error, no sorting.

/// Buckets per power of two, as a power of two: 64 keep the error of a percentile below 1/64 = 1.6 %.
const PRECISION_BITS: u32 = 6;
const SUB_BUCKETS: u64 = 1 << PRECISION_BITS;
/// Enough for every `u64`: about 3,800 counters, 30 KB.
const BUCKETS: usize = ((64 - PRECISION_BITS as usize) + 1) << PRECISION_BITS;

/// Counts of values (nanoseconds here, but it does not care).
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, sum: 0, min: u64::MAX, max: 0 }
    }
}

impl Histogram {
    /// Counts `value`.
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.count += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Returns how many values were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the smallest value; 0 when there is none.
    pub(crate) fn min(&self) -> u64 {
        if self.count == 0 { 0 } else { self.min }
    }

    /// Returns the largest value; 0 when there is none.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Returns the arithmetic mean, exact; 0 when there is none.
    pub(crate) fn mean(&self) -> u64 {
        let mean = self.sum.checked_div(u128::from(self.count)).unwrap_or(0);
        u64::try_from(mean).unwrap_or(u64::MAX)
    }

    /// Returns the smallest value that at least `percent` percent of the values do not exceed, rounded up to its
    /// bucket's end; 0 when there is none.
    pub(crate) fn percentile(&self, percent: f64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count times 0..1 fits"
        )]
        #[expect(clippy::cast_precision_loss, reason = "no run makes 2^53 requests")]
        let rank = ((self.count as f64 * percent / 100.0).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return bucket_end(index).min(self.max);
            }
        }
        self.max
    }
}

/// Returns the bucket of a value. Values below `SUB_BUCKETS` have a bucket each; above, each power of two is cut into
/// `SUB_BUCKETS` equal parts.
fn bucket(value: u64) -> usize {
    if value < SUB_BUCKETS {
        return usize_of(value);
    }
    let shift = value.ilog2() - PRECISION_BITS;
    let row = u64::from(shift) + 1;
    usize_of((row << PRECISION_BITS) + ((value >> shift) - SUB_BUCKETS))
}

/// Returns the largest value of the bucket `index`.
fn bucket_end(index: usize) -> u64 {
    let (row, column) = ((index as u64) >> PRECISION_BITS, (index as u64) & (SUB_BUCKETS - 1));
    if row == 0 {
        return column;
    }
    let shift = row - 1;
    ((SUB_BUCKETS + column) << shift) + ((1 << shift) - 1)
}

fn usize_of(index: u64) -> usize {
    usize::try_from(index).expect("an index is below BUCKETS, which is a usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_histogram_is_all_zeros() {
        let empty = Histogram::default();
        assert_eq!((empty.min(), empty.mean(), empty.max(), empty.percentile(99.0)), (0, 0, 0, 0));
    }

    #[test]
    fn buckets_cover_every_value_without_a_gap() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]).chain([u64::MAX]);
        for value in edges {
            let index = bucket(value);
            assert!(index < BUCKETS, "{value}");
            assert!(bucket_end(index) >= value, "{value}");
            assert!(index == 0 || bucket_end(index - 1) < value, "{value}");
        }
    }

    #[test]
    fn percentiles_are_off_by_less_than_a_sub_bucket() {
        let mut histogram = Histogram::default();
        (1..=100_000u64).for_each(|value| histogram.record(value));
        for percent in [1u64, 50, 90, 99, 100] {
            let exact = 1_000 * percent;
            let found = histogram.percentile(f64::from(u32::try_from(percent).unwrap()));
            assert!((exact..=exact + exact / SUB_BUCKETS).contains(&found), "p{percent}: {found}");
        }
        assert_eq!((histogram.count(), histogram.min(), histogram.max()), (100_000, 1, 100_000));
        assert_eq!(histogram.mean(), 50_000);
    }
}
