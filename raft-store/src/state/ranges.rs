//! A persistent set of numbers, kept as the spans of neighbours in it.

use imbl::OrdMap;

/// A set of numbers whose cost grows with its gaps, not with its members.
///
/// Spans are maximal: two of them never touch. Every operation is logarithmic in their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet {
    /// First member of a span to its last.
    spans: OrdMap<u64, u64>,
    count: u64,
}

impl RangeSet {
    /// All numbers from `first` to `last`, both included; empty when `first` is above `last`.
    pub(super) fn span(first: u64, last: u64) -> Self {
        if first > last {
            return Self::default();
        }
        Self { spans: OrdMap::unit(first, last), count: last - first + 1 }
    }

    /// How many members there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The span that holds `n`.
    fn around(&self, n: u64) -> Option<(u64, u64)> {
        let (&first, &last) = self.spans.get_prev(&n)?;
        (n <= last).then_some((first, last))
    }

    pub(super) fn contains(&self, n: u64) -> bool {
        self.around(n).is_some()
    }

    /// Adds `n`; false when it was a member already.
    pub(super) fn insert(&mut self, n: u64) -> bool {
        if self.contains(n) {
            return false;
        }
        let below = n.checked_sub(1).and_then(|m| self.around(m));
        let above = n.checked_add(1).and_then(|m| self.around(m));
        let first = below.map_or(n, |(first, _)| first);
        let last = match above {
            None => n,
            Some((start, last)) => {
                self.spans.remove(&start);
                last
            }
        };
        self.spans.insert(first, last);
        self.count += 1;
        true
    }

    /// Takes `n` out; false when it was no member.
    pub(super) fn remove(&mut self, n: u64) -> bool {
        let Some((first, last)) = self.around(n) else { return false };
        if first == n {
            self.spans.remove(&first);
        } else {
            self.spans.insert(first, n - 1);
        }
        if n < last {
            self.spans.insert(n + 1, last);
        }
        self.count -= 1;
        true
    }

    /// The lowest member.
    pub(super) fn first(&self) -> Option<u64> {
        self.spans.get_min().map(|&(first, _)| first)
    }

    /// The lowest member that is not below `n`.
    pub(super) fn at_or_above(&self, n: u64) -> Option<u64> {
        if self.contains(n) {
            return Some(n);
        }
        self.spans.get_next(&n).map(|(&first, _)| first)
    }

    /// All members, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.spans.iter().flat_map(|(&first, &last)| first..=last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_ends_of_the_number_line_are_ordinary_members() {
        let mut set = RangeSet::default();
        for n in [0, u64::MAX, 1, u64::MAX - 1] {
            assert!(set.insert(n), "{n}");
            assert!(!set.insert(n), "{n}");
        }
        assert_eq!(set.spans.len(), 2);
        assert!(set.remove(0) && set.remove(u64::MAX));
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, u64::MAX - 1]);
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_plain_set(
            ops in prop::collection::vec((any::<bool>(), 0u64..40), 0..200),
        ) {
            let mut set = RangeSet::span(10, 20);
            let mut plain: BTreeSet<u64> = (10..=20).collect();
            for (add, n) in ops {
                if add {
                    prop_assert_eq!(set.insert(n), plain.insert(n));
                } else {
                    prop_assert_eq!(set.remove(n), plain.remove(&n));
                }
                prop_assert_eq!(set.count(), plain.len() as u64);
                prop_assert_eq!(set.first(), plain.first().copied());
                prop_assert_eq!(set.at_or_above(n), plain.range(n..).next().copied());
                prop_assert!(set.iter().eq(plain.iter().copied()));
                let touching = set.spans.values().any(|last| set.spans.contains_key(&(last + 1)));
                prop_assert!(!touching, "two spans touch: {:?}", set.spans);
            }
        }
    }
}
