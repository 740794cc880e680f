//! Node layers, the sections between them, and the road that each section takes to M'.

use crate::device::{DType, Tensor};
use crate::error::{Error, Result};
use crate::model::sections::{AttentionShape, LinearMap, Member, Network, Stage, coords};
use crate::ops::activation::Activation;

use super::host;

/// A node layer: the input of a module, or the output of the model.
#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    /// Index of the module; the number of modules for `output`.
    pub module: usize,
    pub members: Vec<Member>,
    /// Only the last position of each sequence is there.
    pub last_only: bool,
    /// The first coordinate is the variance of a LayerNorm, which keeps a direction of its own.
    pub variance: bool,
}

impl Node {
    /// Coordinates of the node layer, constants included.
    pub fn width(&self) -> usize {
        coords(&self.members)
    }
}

/// The nonlinear core of a section with a closed form, acting on the first members of a tuple.
#[derive(Clone, Copy, Debug)]
pub enum Core {
    Linear,
    /// (x, ..) -> (v, x, ..)
    NormFirst,
    /// (v, x, ..) -> (y, ..)
    NormSecond {
        eps: f64,
    },
    /// (x, ..) -> (y, x, ..)
    Norm {
        eps: f64,
    },
    Act(Activation),
    Gated(Activation),
    Attention(AttentionShape),
}

/// A section as linear maps around one core: F = right(core(left(f))).
#[derive(Clone, Debug)]
pub struct Closed {
    pub left: Vec<LinearMap>,
    pub core: Core,
    /// The tuple in front of the core.
    pub input: Vec<Member>,
    /// The core's place: index into the section's stages.
    pub at: Option<usize>,
    pub right: Vec<LinearMap>,
}

impl Closed {
    /// Whether its moments depend on data only; otherwise C of the next layer must be known first.
    pub fn is_data_only(&self) -> bool {
        !matches!(self.core, Core::Norm { .. } | Core::Attention(_))
    }
    /// X L, for X `[n, d_in]`.
    pub fn through_left(&self, x: &faer::Mat<f64>) -> faer::Mat<f64> {
        self.left.iter().fold(x.clone(), |x, map| map.rows(x.as_ref()))
    }
    /// R Y, for Y `[d_out, n]`.
    pub fn through_right(&self, y: &faer::Mat<f64>) -> faer::Mat<f64> {
        self.right.iter().rev().fold(y.clone(), |y, map| map.cols(y.as_ref()))
    }
}

/// What lies between two node layers.
#[derive(Clone, Debug)]
pub struct Section {
    pub from: Node,
    pub to: Node,
    pub stages: Vec<Stage>,
    /// (module, stage) of each of `stages`.
    pub places: Vec<(usize, usize)>,
    /// The closed form, or why there is none.
    pub closed: std::result::Result<Closed, String>,
}

impl Section {
    pub fn new(net: &Network, from: &Node, to: &Node, dtype: DType) -> Self {
        let stages = net.stages(from.module, to.module);
        let places = (from.module..to.module).flat_map(|m| (0..net.modules[m].stages.len()).map(move |s| (m, s))).collect();
        let closed = classify(&stages, &from.members, dtype);
        Self { from: from.clone(), to: to.clone(), stages, places, closed }
    }
    pub fn name(&self) -> String {
        format!("{}->{}", self.from.name, self.to.name)
    }
    pub fn mixes_positions(&self) -> bool {
        self.stages.iter().any(Stage::mixes_positions)
    }
}

/// Finds the closed form of a run of stages (closed forms, section 7, rules 1 to 3).
pub fn classify(stages: &[Stage], input: &[Member], dtype: DType) -> std::result::Result<Closed, String> {
    let mut tuple = input.to_vec();
    // Linear maps before, between and behind the nonlinear stages.
    let mut maps: Vec<Vec<LinearMap>> = vec![Vec::new()];
    let mut cores: Vec<(usize, &Stage, Vec<Member>)> = Vec::new();
    for (i, stage) in stages.iter().enumerate() {
        match stage {
            Stage::Linear(outs) => {
                let map = LinearMap::new(&tuple, outs, dtype);
                if let Some(last) = maps.last_mut() {
                    last.push(map);
                }
            }
            _ => {
                cores.push((i, stage, tuple.clone()));
                maps.push(Vec::new());
            }
        }
        tuple = stage.output(&tuple);
    }
    let mut maps = maps.into_iter();
    let left = maps.next().unwrap_or_default();
    match &cores[..] {
        [] => Ok(Closed { left: Vec::new(), core: Core::Linear, input: input.to_vec(), at: None, right: left }),
        [(at, stage, input)] => {
            let core = match stage {
                Stage::Variance => Core::NormFirst,
                Stage::Normalise { eps } => Core::NormSecond { eps: *eps },
                Stage::Act(act) if act.is_elementwise() => Core::Act(*act),
                Stage::Act(_) => return Err("SoLU mixes neurons: no closed form".into()),
                Stage::Gated(act) => Core::Gated(*act),
                Stage::Attention(shape) => Core::Attention(*shape),
                Stage::Linear(_) => return Err("not a nonlinear stage".into()),
            };
            Ok(Closed { left, core, input: input.clone(), at: Some(*at), right: maps.next().unwrap_or_default() })
        }
        [(at, Stage::Variance, input), (_, Stage::Normalise { eps }, second)] => {
            let (between, right) = (maps.next().unwrap_or_default(), maps.next().unwrap_or_default());
            let join = whole_norm(&between, input, second).ok_or("the variance is read by more than its norm")?;
            let right = std::iter::once(join).chain(right).collect();
            Ok(Closed { left, core: Core::Norm { eps: *eps }, input: input.clone(), at: Some(*at), right })
        }
        _ => Err(format!("{} nonlinear stages in one section", cores.len())),
    }
}

/// The map from (y, x, rest) to (y, rest') of a norm whose halves stand in one section, if the
/// variance goes nowhere but into its own norm.
fn whole_norm(between: &[LinearMap], input: &[Member], second: &[Member]) -> Option<LinearMap> {
    let (n_in, n_out) = (coords(input) + 1, coords(second));
    let eye = faer::Mat::<f64>::identity(n_in, n_in);
    let dense = between.iter().fold(eye, |x, map| map.rows(x.as_ref()));
    let x = input[0].coords();
    // Columns of v and x behind the maps: exactly v and x in front of them.
    for j in 0..=x {
        for i in 0..n_in {
            if dense[(i, j)] != f64::from(u8::from(i == j)) {
                return None;
            }
        }
    }
    let rest = n_out - 1 - x;
    if (0..rest).any(|j| dense[(0, 1 + x + j)] != 0.0) {
        return None;
    }
    let join = faer::Mat::from_fn(x + n_in - 1, x + rest, |i, j| match (i < x, j < x) {
        (true, true) => f64::from(u8::from(i == j)),
        (false, false) => dense[(1 + i - x, 1 + j)],
        _ => 0.0,
    });
    let tensor: Tensor = host::tensor(DType::F64, join.as_ref());
    Some(LinearMap::dense(&tensor))
}

/// Finds the node layers of `names` in a network (`lib.md` 1.2). `contiguous` asks for a gapless
/// run, as MLPs need.
pub fn nodes(net: &Network, names: &[String], contiguous: bool) -> Result<Vec<Node>> {
    const FLAG: &str = "--node-layers";
    let known = || {
        let ids: Vec<&str> = net.modules.iter().map(|m| m.id.as_str()).collect();
        let shown = if ids.len() > 30 {
            format!("{} .. {}", ids[..15].join(", "), ids[ids.len() - 4..].join(", "))
        } else {
            ids.join(", ")
        };
        format!("one of {shown}, output")
    };
    let mut nodes: Vec<Node> = Vec::new();
    for name in names {
        let module = if name == "output" {
            net.modules.len()
        } else {
            let found = net.modules.iter().position(|m| m.id == *name);
            found.ok_or_else(|| Error::flag(FLAG, format!("the unknown node layer '{name}'"), known()))?
        };
        if let Some(before) = nodes.last() {
            if nodes.iter().any(|n| n.module == module) {
                return Err(Error::flag(FLAG, format!("'{name}' twice"), "each node layer once"));
            }
            if module < before.module {
                return Err(Error::flag(FLAG, format!("'{name}' behind '{}'", before.name), "node layers in the model's order"));
            }
            if contiguous && module != before.module + 1 {
                return Err(Error::flag(
                    FLAG,
                    format!("a gap between '{}' and '{name}'", before.name),
                    "a run of layers without gaps for an MLP",
                ));
            }
        }
        let (members, last_only) = net.tuple(module);
        let variance = ["ln1_out.", "ln2_out."].iter().any(|p| name.starts_with(p)) && members[0] == Member::new(1, None);
        nodes.push(Node { name: name.clone(), module, members: members.to_vec(), last_only, variance });
    }
    if nodes.len() < 2 {
        let found = nodes.first().map_or("no node layer".into(), |n| format!("only '{}'", n.name));
        return Err(Error::flag(FLAG, found, "at least two node layers, so that there is a section between them"));
    }
    Ok(nodes)
}
