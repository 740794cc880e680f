//! `mechgraph ablate`: the flags of an ablation and the schedule that they spell.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::ValueEnum;
use clap::builder::NonEmptyStringValueParser;

use super::common::{Common, DataFlags, check_unique, parse_non_negative, typed};
use crate::error::{Error, Result};

/// Ablate directions or edges of a LIB run and measure the model
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Folder of a finished `lib` run
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    #[command(flatten)]
    pub data: DataFlags,
    /// node or edge: what is ablated
    #[arg(long, value_name = "KIND", hide_possible_values = true)]
    pub kind: Kind,
    /// exponential, linear or bisect [default: node exponential, edge bisect]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    pub schedule: Option<ScheduleName>,
    /// Base of the exponential schedule [default: 1.05]
    #[arg(long, value_name = "B", value_parser = parse_non_negative)]
    pub base: Option<f64>,
    /// Single steps before the exponential ones [default: 10]
    #[arg(long, value_name = "N")]
    pub cutoff: Option<usize>,
    /// Points of the linear schedule
    #[arg(long, value_name = "N")]
    pub points: Option<usize>,
    /// Bisect: change of the metric that is tolerated [default: 0.001]
    #[arg(long, value_name = "X", value_parser = parse_non_negative)]
    pub target: Option<f64>,
    /// Bisect: linear or logarithmic midpoint [default: linear]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    pub midpoint: Option<Midpoint>,
    /// Bisect: stop when the bounds are this close [default: 1]
    #[arg(long, value_name = "N")]
    pub tolerance: Option<NonZeroUsize>,
    /// Also measure with these numbers kept
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    pub at: Vec<usize>,
    /// Stop a layer when the metric has changed by more than X
    #[arg(long, value_name = "X", value_parser = parse_non_negative)]
    pub stop_at: Option<f64>,
    /// lib or pca: the directions that are ablated
    #[arg(long, value_name = "NAME", default_value = "lib", hide_possible_values = true)]
    pub basis: AblationBasis,
    /// accuracy or loss
    #[arg(long, value_name = "NAME", default_value = "accuracy", hide_possible_values = true)]
    pub metric: Metric,
    /// Node layers of the run to ablate [default: all]
    #[arg(long, value_name = "A,B,..", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub layers: Vec<String>,
    #[command(flatten)]
    pub common: Common,
}

/// What is ablated.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Node,
    Edge,
}

/// `--schedule`
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleName {
    Exponential,
    Linear,
    Bisect,
}

/// The point between two bounds that a bisection tries next.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Midpoint {
    Linear,
    Logarithmic,
}

/// Whose directions are ablated: those of C, or the principal components W of the same run.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AblationBasis {
    Lib,
    Pca,
}

/// What is measured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Accuracy,
    Loss,
}

/// Which numbers of kept directions or edges are measured (spec/lib.md, 3.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// `cutoff` single steps from the full end, then `x <- trunc(x - base^k)`, k = 0, 1, ..
    Exponential { base: f64, cutoff: usize },
    /// Evenly spaced, both ends included.
    Linear { points: usize },
    /// The least number kept that changes the metric by at most `target`, up to `tolerance`.
    Bisect { target: f64, midpoint: Midpoint, tolerance: usize },
}

impl Args {
    /// Refuses combinations of flags that contradict each other.
    pub fn check(&self) -> Result<()> {
        self.common.check()?;
        check_unique("--layers", &self.layers)?;
        if (self.kind, self.basis) == (Kind::Edge, AblationBasis::Pca) {
            return Err(Error::flag("--basis", "pca with --kind edge", "lib: edges run between directions of the LIB"));
        }
        self.schedule().map(drop)
    }
    fn schedule_name(&self) -> ScheduleName {
        self.schedule.unwrap_or(match self.kind {
            Kind::Node => ScheduleName::Exponential,
            Kind::Edge => ScheduleName::Bisect,
        })
    }
    /// The schedule that the flags spell.
    pub fn schedule(&self) -> Result<Schedule> {
        use ScheduleName::{Bisect, Exponential, Linear};
        let name = self.schedule_name();
        let owners: [(&str, bool, &[ScheduleName]); 8] = [
            ("--base", self.base.is_some(), &[Exponential]),
            ("--cutoff", self.cutoff.is_some(), &[Exponential]),
            ("--points", self.points.is_some(), &[Linear]),
            ("--target", self.target.is_some(), &[Bisect]),
            ("--midpoint", self.midpoint.is_some(), &[Bisect]),
            ("--tolerance", self.tolerance.is_some(), &[Bisect]),
            ("--at", !self.at.is_empty(), &[Exponential, Linear]),
            ("--stop-at", self.stop_at.is_some(), &[Exponential, Linear]),
        ];
        if let Some((flag, _, owners)) = owners.iter().find(|(_, given, owners)| *given && !owners.contains(&name)) {
            let owners: Vec<String> = owners.iter().map(|o| format!("--schedule {}", typed(*o))).collect();
            return Err(Error::flag(flag, format!("the {} schedule", typed(name)), owners.join(" or ")));
        }
        match name {
            Exponential => match self.base.unwrap_or(1.05) {
                base if base >= 1.0 => Ok(Schedule::Exponential { base, cutoff: self.cutoff.unwrap_or(10) }),
                base => Err(Error::flag("--base", base.to_string(), "a number from 1 up")),
            },
            Linear => match self.points {
                Some(points @ 2..) => Ok(Schedule::Linear { points }),
                Some(points) => Err(Error::flag("--points", points.to_string(), "at least 2, for the two ends")),
                None => Err(Error::flag("--points", "nothing", "the number of points of the linear schedule")),
            },
            Bisect => Ok(Schedule::Bisect {
                target: self.target.unwrap_or(0.001),
                midpoint: self.midpoint.unwrap_or(Midpoint::Linear),
                tolerance: self.tolerance.map_or(1, NonZeroUsize::get),
            }),
        }
    }
    /// The name of the result file inside RUN.
    pub fn file_name(&self) -> &'static str {
        match (self.kind, self.basis) {
            (Kind::Node, AblationBasis::Lib) => "ablation-node.json",
            (Kind::Node, AblationBasis::Pca) => "ablation-node-pca.json",
            (Kind::Edge, _) => "ablation-edge.json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::ablate_args;

    #[test]
    fn each_kind_has_its_schedule_and_file() {
        let node = ablate_args("--kind node").unwrap();
        assert_eq!(node.schedule().unwrap(), Schedule::Exponential { base: 1.05, cutoff: 10 });
        assert_eq!((node.file_name(), node.metric), ("ablation-node.json", Metric::Accuracy));
        let edge = ablate_args("--kind edge").unwrap();
        assert_eq!(edge.schedule().unwrap(), Schedule::Bisect { target: 0.001, midpoint: Midpoint::Linear, tolerance: 1 });
        assert_eq!(edge.file_name(), "ablation-edge.json");
        assert_eq!(ablate_args("--kind node --basis pca").unwrap().file_name(), "ablation-node-pca.json");
    }

    #[test]
    fn flags_spell_the_schedule() {
        let schedule = |flags: &str| ablate_args(flags).unwrap().schedule().unwrap();
        assert_eq!(schedule("--kind edge --schedule linear --points 5"), Schedule::Linear { points: 5 });
        assert_eq!(schedule("--kind node --base 2 --cutoff 0"), Schedule::Exponential { base: 2.0, cutoff: 0 });
        let bisect = schedule("--kind node --schedule bisect --target 0.2 --midpoint logarithmic --tolerance 4");
        assert_eq!(bisect, Schedule::Bisect { target: 0.2, midpoint: Midpoint::Logarithmic, tolerance: 4 });
        let args = ablate_args("--kind node --at 3,1 --stop-at 0.5 --layers ln1.0,unembed --metric loss").unwrap();
        assert_eq!((args.at, args.stop_at, args.layers.len(), args.metric), (vec![3, 1], Some(0.5), 2, Metric::Loss));
    }

    #[test]
    fn flags_of_another_schedule_are_refused() {
        let cases = [
            ("--kind edge --base 2", "--base: found the bisect schedule; expected --schedule exponential"),
            ("--kind node --points 3", "--points: found the exponential schedule; expected --schedule linear"),
            ("--kind node --target 0.1", "--target: found the exponential schedule; expected --schedule bisect"),
            ("--kind edge --at 3", "--at: found the bisect schedule; expected --schedule exponential or --schedule linear"),
            ("--kind edge --stop-at 0.1", "--stop-at: found the bisect schedule"),
            ("--kind node --schedule linear", "--points: found nothing"),
            ("--kind node --schedule linear --points 1", "--points: found 1"),
            ("--kind node --base 0.5", "--base: found 0.5"),
            ("--kind edge --basis pca", "--basis: found pca with --kind edge"),
            ("--kind node --layers a,a", "--layers: found a twice"),
            ("--kind node --at 1,,2", "usage: "),
            ("--kind edge --tolerance 0", "usage: "),
            ("", "usage: "),
        ];
        for (flags, part) in cases {
            let error = ablate_args(flags).unwrap_err();
            assert!(error.starts_with(part), "{flags}: {error}");
        }
    }
}
