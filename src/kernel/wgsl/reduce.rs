//! How the invocations of a workgroup join their numbers, and how many share a row: what the kernels with sums over a
//! workgroup have in common. It launches nothing.
//!
//! The texts say `{{REDUCE}}` and `{{LANE}}`, and their file has the configuration that every adapter runs
//! ([`barriers`]); [`of`] gives the one of an adapter. Both go along one tree, so the bits are the same.

use super::super::registry::Configuration;
use super::Limits;

/// How numbers of a workgroup are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Through workgroup memory, with a barrier after each step.
    Barrier,
    /// Through workgroup memory as long as more is left than a subgroup has lanes, then by each subgroup for itself.
    Subgroup,
}

impl Reduce {
    pub const ALL: [Reduce; 2] = [Reduce::Barrier, Reduce::Subgroup];
    /// The word `REDUCE` of a configuration, and the end of its name.
    pub fn name(self) -> &'static str {
        match self {
            Reduce::Barrier => "barrier",
            Reduce::Subgroup => "subgroup",
        }
    }
    /// What the functions of `frag/reduce_NAME.wgsl` are told behind the invocation's number.
    fn lane(self) -> &'static str {
        match self {
            Reduce::Barrier => "",
            Reduce::Subgroup => ", subgroup_size, subgroup_lane",
        }
    }
    /// The way of a configuration, where its text joins numbers.
    pub fn way(configuration: &Configuration) -> Option<Self> {
        let word = configuration.constants.get_word("REDUCE")?;
        Self::ALL.into_iter().find(|way| way.name() == word)
    }
    /// A configuration in this way. Its name has no end yet.
    fn named(self, base: Configuration) -> Configuration {
        let constants = base.constants.word("REDUCE", self.name()).word("LANE", self.lane());
        Configuration { name: format!("{}-{}", base.name, self.name()), constants, ..base }
    }
}

/// A configuration whose text joins numbers, as every adapter runs it.
pub fn barriers(base: Configuration) -> Configuration {
    Reduce::Barrier.named(base)
}

/// What of a configuration an adapter runs: by subgroups what [`barriers`] gave, where it has them; else what it is.
pub fn of(configuration: &Configuration, limits: &Limits) -> Configuration {
    let base = configuration.name.strip_suffix(Reduce::Barrier.name()).and_then(|name| name.strip_suffix('-'));
    match base {
        Some(base) if limits.subgroups && Reduce::way(configuration) == Some(Reduce::Barrier) => {
            Reduce::Subgroup.named(Configuration { name: base.into(), ..configuration.clone() })
        }
        _ => configuration.clone(),
    }
}

/// Every way of configurations that [`barriers`] gave.
pub fn ways(all: impl IntoIterator<Item = Configuration>) -> Vec<Configuration> {
    let offered = Limits { subgroups: true, ..Limits::BASELINE };
    all.into_iter().flat_map(|c| [of(&c, &offered), c]).collect()
}

/// Invocations that share a row, in the configurations of kernels that have a workgroup for each row.
pub const ROWS: [u32; 4] = [32, 64, 128, 256];

/// How many invocations share a row of `cols` columns: as many as it has, 32 at least and 128 at most, 256 of rows from
/// 2048 columns on. It follows from the width alone, because the order of a sum does from it.
pub fn row_threads(cols: usize) -> u32 {
    match cols {
        0..=32 => 32,
        33..=64 => 64,
        65..2048 => 128,
        _ => 256,
    }
}

/// The configuration of a kernel that has a workgroup of `threads` for each row and `words` words of workgroup memory for
/// each invocation.
pub fn row(threads: u32, words: u32) -> Configuration {
    let constants = super::super::Constants::default();
    barriers(Configuration { name: format!("row{threads}"), constants, threads, shared: 4 * words * threads })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_joins_numbers_is_run_by_subgroups_and_only_where_there_are_any() {
        let offered = Limits { subgroups: true, ..Limits::BASELINE };
        let base = row(64, 2);
        assert_eq!((base.name.as_str(), base.shared), ("row64-barrier", 512));
        assert_eq!(of(&base, &Limits::BASELINE), base);
        let by_subgroups = of(&base, &offered);
        assert_eq!(by_subgroups.name, "row64-subgroup");
        assert_eq!(Reduce::way(&by_subgroups), Some(Reduce::Subgroup));
        assert_eq!(of(&by_subgroups, &offered), by_subgroups);
        let other = super::super::attention_tiles::configuration();
        assert_eq!((of(&other, &offered), Reduce::way(&other)), (other, None));
    }

    #[test]
    fn narrow_rows_take_no_more_invocations_than_they_can_use() {
        let found = [0, 1, 32, 33, 64, 65, 768, 2047, 2048, 50_000].map(row_threads);
        assert_eq!(found, [32, 32, 32, 64, 64, 128, 128, 128, 256, 256]);
        assert!(found.iter().all(|threads| ROWS.contains(threads)));
    }
}
