//! How long a site's tasks live: the ended ones by lifetime, the live ones by age, and the share that outlives an age.
//!
//! Plain counts in the kernel's half octaves, those that are empty left out, so that a report that was read back from
//! a file says the same. It judges nothing.

use leakwatch_common::{LIFETIME_BUCKETS, bucket_floor_ns, lifetime_bucket};

use crate::{
    model::{seconds, survival},
    observe::Histogram,
};

/// Tasks whose lifetime or age is between two times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lifetime or age at least, seconds.
    pub from_s: f64,
    /// How many.
    pub count: u64,
}

impl Bucket {
    /// The end of the half octave, seconds; the last one is open and has none.
    pub fn to_s(&self) -> Option<f64> {
        let bucket = self.index();
        (bucket + 1 < LIFETIME_BUCKETS).then(|| seconds(bucket_floor_ns(bucket + 1)))
    }

    /// Its beginning, nanoseconds.
    pub fn from_ns(&self) -> u64 {
        nanoseconds(self.from_s)
    }

    fn index(&self) -> usize {
        lifetime_bucket(self.from_ns())
    }
}

/// The share of tasks that outlives an age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Age, seconds.
    pub age_s: f64,
    /// Share of the tasks that live longer, 0 to 1.
    pub share: f64,
}

/// Tasks of a site that were born since attach.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lives {
    /// Ended ones by lifetime, shortest first; none of them empty.
    pub ended: Vec<Bucket>,
    /// Live ones by age, youngest first; `None`: their ages were not read, or not lately.
    pub alive: Option<Vec<Bucket>>,
}

impl Lives {
    /// From counts by half octave; `None` where nothing ended and no age is known.
    pub fn of(ended: &Histogram, alive: Option<&Histogram>) -> Option<Self> {
        let lives = Self { ended: buckets(ended), alive: alive.map(buckets) };
        let empty = lives.ended.is_empty() && lives.alive.as_ref().is_none_or(Vec::is_empty);
        (!empty).then_some(lives)
    }

    /// The survival curve (Kaplan-Meier; those alive are counted up to their age): falls to 0 where all end, and stays on
    /// a level where some never do. `None` where the ages of the live ones are not known.
    pub fn survival(&self) -> Option<Vec<Step>> {
        let alive = histogram(self.alive.as_ref()?);
        let steps = survival::curve(&histogram(&self.ended), &alive).into_iter();
        Some(steps.map(|step| Step { age_s: step.age_s, share: step.share }).collect())
    }
}

fn buckets(histogram: &Histogram) -> Vec<Bucket> {
    let known = histogram.iter().enumerate().filter(|(_, count)| **count > 0);
    known.map(|(bucket, &count)| Bucket { from_s: seconds(bucket_floor_ns(bucket)), count }).collect()
}

fn histogram(buckets: &[Bucket]) -> Histogram {
    let mut histogram = Histogram::default();
    for bucket in buckets {
        histogram.count(bucket.index(), bucket.count);
    }
    histogram
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded; `as` saturates, and what is no number becomes 0"
)]
const fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_survive_the_way_through_seconds() {
        let ended = Histogram::from(std::array::from_fn(|bucket| bucket as u64 + 1));
        let lives = Lives::of(&ended, Some(&ended)).expect("there are some");
        assert_eq!(histogram(&lives.ended), ended);
        assert_eq!(lives.ended.last().and_then(Bucket::to_s), None, "the last one is open");
        assert_eq!(lives.ended[0].to_s(), Some(seconds(bucket_floor_ns(1))));
        let steps = lives.survival().expect("ages are known");
        let direct = survival::curve(&ended, &ended);
        assert_eq!(steps.len(), direct.len());
        assert!(
            steps
                .iter()
                .zip(&direct)
                .all(|(a, b)| (a.age_s - b.age_s).abs() < 1e-12 && (a.share - b.share).abs() < 1e-12)
        );
    }

    #[test]
    fn nothing_known_is_none() {
        let none = Histogram::default();
        assert_eq!(Lives::of(&none, None), None);
        assert_eq!(Lives::of(&none, Some(&none)), None);
        let mut one = none;
        one.count(20, 3);
        let lives = Lives::of(&one, None).expect("some ended");
        assert_eq!(lives.survival(), None, "without the ages of the live ones there is no curve");
        let odd = Lives { ended: vec![Bucket { from_s: f64::NAN, count: 1 }], alive: Some(Vec::new()) };
        assert!(odd.survival().is_some(), "a file may say anything");
    }
}
