use model::NodeId;
use std::collections::BTreeSet;

/// The Raft voters as one log entry gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Membership {
    /// Index of the entry.
    pub log_index: u64,
    /// One set, or two while joint: then a quorum is a majority of each.
    pub voters: Vec<Vec<NodeId>>,
}

impl Membership {
    /// A membership of one set.
    #[must_use]
    pub fn uniform(log_index: u64, voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { log_index, voters: vec![voters.into_iter().collect()] }
    }

    /// Whether the nodes that `agrees` accepts are a quorum. Without voters nothing is.
    #[must_use]
    pub fn has_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        self.quorum_best(|node| agrees(node).then_some(())).is_some()
    }

    /// Whether `node` votes.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.iter().flatten().any(|&v| v == node)
    }

    /// All voters, each once, in order.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.voters.iter().flatten().copied().collect()
    }

    /// The greatest value that a quorum reaches: each of its nodes has this value or a greater one.
    pub(crate) fn quorum_best<T: Ord>(&self, value: impl Fn(NodeId) -> Option<T>) -> Option<T> {
        let best_of_set = |set: &Vec<NodeId>| {
            let distinct: BTreeSet<NodeId> = set.iter().copied().collect();
            let mut values: Vec<T> = distinct.iter().filter_map(|&node| value(node)).collect();
            values.sort_unstable_by(|a, b| b.cmp(a));
            values.into_iter().nth(distinct.len() / 2)
        };
        let mut worst = None;
        for set in &self.voters {
            let best = best_of_set(set)?;
            worst = Some(match worst {
                Some(w) if w < best => w,
                Some(_) | None => best,
            });
        }
        worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_a_majority_of_each_set() {
        type Row<'a> = (&'a str, &'a [&'a [u64]], &'a [u64], bool);
        let rows: &[Row] = &[
            ("two of three", &[&[1, 2, 3]], &[1, 3], true),
            ("one of three", &[&[1, 2, 3]], &[2], false),
            ("half of four", &[&[1, 2, 3, 4]], &[1, 2], false),
            ("one of one", &[&[1]], &[1], true),
            ("a stranger does not count", &[&[1, 2, 3]], &[1, 9], false),
            ("a node named twice counts once", &[&[1, 1, 2]], &[1], false),
            ("joint, both majorities", &[&[1, 2, 3], &[3, 4, 5]], &[1, 3, 4], true),
            ("joint, only the old majority", &[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3], false),
            ("joint, only the new majority", &[&[1, 2, 3], &[3, 4, 5]], &[3, 4, 5], false),
            ("no voters", &[], &[1, 2, 3], false),
            ("an empty set", &[&[]], &[1, 2, 3], false),
        ];
        for &(name, sets, agree, want) in rows {
            let voters = sets.iter().map(|s| s.iter().map(|&n| NodeId(n)).collect()).collect();
            let m = Membership { log_index: 1, voters };
            assert_eq!(m.has_quorum(|n| agree.contains(&n.0)), want, "{name}");
        }
    }

    #[test]
    fn the_value_of_a_quorum_is_its_lowest() {
        let m = Membership::uniform(1, [1, 2, 3].map(NodeId));
        assert_eq!(m.quorum_best(|n| Some(n.0 * 10)), Some(20));
        assert_eq!(m.quorum_best(|n| (n.0 != 2).then_some(n.0 * 10)), Some(10));
        let joint = Membership {
            log_index: 2,
            voters: vec![m.nodes().into_iter().collect(), vec![NodeId(1)]],
        };
        assert_eq!(joint.quorum_best(|n| Some(n.0 * 10)), Some(10));
    }
}
