//! Tries whose values come from the training windows.
//!
//! Pruning and saliency say which contexts may matter; how far they do is counted. Every node of the trie
//! that the lines make stands for the training positions whose walk ends there. A node that a window's own
//! lines made says nothing of that window, since it would always be right: a walk over a window passes
//! only nodes that lines of other windows made too. The share of positions that fire is drawn towards that
//! of the node in front, as counts are small, and a node fires if its share reaches a threshold: the lowest
//! that gives the training windows nearly the best F1. With threshold 0 every token fires that did so once,
//! which is token lookup.

use super::evaluate::Window;
use super::lines::{Element, Line};
use super::trie::{Trie, WILDCARD};
use super::vocabulary::Vocabulary;

/// Positions that the share of the node in front counts for.
const PRIOR: f64 = 1.0;
/// Thresholds that are tried, in steps of 1 / 40.
const STEPS: std::ops::RangeInclusive<usize> = 0..=24;
/// How far F1 may be below the best one: thresholds from few windows are easily too high, and a neuron for
/// which nothing fires any more is worth less than one for which too much does.
const SLACK: f64 = 0.1;

/// A training window with the lines of its pivots.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    pub window: Window<'a>,
    pub lines: Vec<Line>,
}

/// What is known of a node.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Windows whose lines pass it, a bit each.
    makers: u128,
    /// Positions whose walk ends here, and those of them that fire, by window.
    ends: Vec<(u32, u32)>,
    /// Sum of the activations of those that fire.
    fired: f64,
}

/// The trie of a neuron. Tokens that fire without being a pivot have a line of their own without context.
pub fn fit(evidence: &[Evidence], vocabulary: &Vocabulary, fire: f64) -> Trie {
    let mut trie = Trie::new();
    let mut nodes = vec![Node::default()];
    let windows = evidence.len().min(128);
    for (w, e) in evidence.iter().enumerate().take(windows) {
        for line in e.lines.iter().cloned().chain(single(e.window, vocabulary, fire)) {
            let mut at = 0;
            nodes[0].makers |= 1 << w;
            for element in &line.elements {
                at = trie.descend(at, element);
                nodes.resize_with(trie.nodes.len(), Node::default);
                nodes[at as usize].makers |= 1 << w;
            }
        }
    }
    nodes.iter_mut().for_each(|n| n.ends = vec![(0, 0); windows]);
    // Where each position ends without its own window's lines.
    let mut ends: Vec<(usize, u32, bool)> = Vec::new();
    for (w, e) in evidence.iter().enumerate().take(windows) {
        let keys: Vec<Option<u32>> = e.window.tokens.iter().map(|id| vocabulary.key(*id)).collect();
        for (t, &act) in e.window.act.iter().enumerate() {
            let end = walk(&trie, &nodes, &keys[..=t], !(1u128 << w));
            let (fires, node) = (act >= fire, &mut nodes[end as usize]);
            node.ends[w].0 += 1;
            node.ends[w].1 += u32::from(fires);
            node.fired += if fires { act } else { 0.0 };
            ends.push((w, end, fires));
        }
    }
    let parents = parents(&trie);
    let threshold = threshold(&nodes, &parents, &ends, windows);
    let shares = shares(&nodes, &parents, None);
    let mean_fired = {
        let (sum, n) = nodes.iter().fold((0.0, 0), |(s, n), x| (s + x.fired, n + x.ends.iter().map(|e| e.1).sum::<u32>()));
        if n == 0 { 1.0 } else { sum / f64::from(n) }
    };
    // Whether a walk that goes no further than the node fires.
    let mut fires = vec![false; trie.nodes.len()];
    for i in 1..trie.nodes.len() {
        let fired: u32 = nodes[i].ends.iter().map(|e| e.1).sum();
        fires[i] = shares[i] >= threshold;
        trie.nodes[i].end = match (fires[i], fires[parents[i] as usize]) {
            (true, _) if fired > 0 => Some(nodes[i].fired / f64::from(fired)),
            (true, _) => Some(mean_fired),
            // It takes back what a shorter pattern says.
            (false, true) => Some(0.0),
            (false, false) => None,
        };
    }
    prune(trie)
}

/// Without the nodes that change no prediction: those without a value on or behind them, unless a wildcard
/// beside them would match in their place.
fn prune(mut trie: Trie) -> Trie {
    for i in (0..trie.nodes.len()).rev() {
        let children = std::mem::take(&mut trie.nodes[i].children);
        let has_wildcard = children.iter().any(|c| trie.nodes[*c as usize].key == WILDCARD);
        let says = |c: &u32| trie.nodes[*c as usize].end.is_some() || !trie.nodes[*c as usize].children.is_empty();
        let kept = children.iter().copied().filter(|c| says(c) || (has_wildcard && trie.nodes[*c as usize].key != WILDCARD));
        let kept: Vec<u32> = kept.collect();
        trie.nodes[i].children = kept;
    }
    trie.renumbered(|_| ())
}

/// Lines of one token for all that fire in a window.
fn single<'a>(window: Window<'a>, vocabulary: &'a Vocabulary, fire: f64) -> impl Iterator<Item = Line> + 'a {
    let firing = window.tokens.iter().zip(window.act).filter(move |(_, act)| **act >= fire);
    firing.filter_map(|(id, act)| {
        let element = Element { key: vocabulary.key(*id)?, importance: 1.0, activation: *act, activates: true };
        Some(Line { elements: vec![element], value: *act })
    })
}

/// The last node of the walk back from the end of `keys` over nodes that one of `makers` made.
fn walk(trie: &Trie, nodes: &[Node], keys: &[Option<u32>], makers: u128) -> u32 {
    let mut at = 0;
    for key in keys.iter().rev() {
        let allowed = |child: &u32| nodes[*child as usize].makers & makers != 0;
        let literal = key.and_then(|key| trie.child(at, key)).filter(allowed);
        match literal.or_else(|| trie.child(at, WILDCARD).filter(allowed)) {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

/// By node: the one in front of it. Nodes come behind their parents.
fn parents(trie: &Trie) -> Vec<u32> {
    let mut parents = vec![0; trie.nodes.len()];
    for (i, node) in trie.nodes.iter().enumerate() {
        node.children.iter().for_each(|child| parents[*child as usize] = i as u32);
    }
    parents
}

/// By node: the share of its positions that fire, drawn towards that of the node in front; of the first
/// tokens, towards that of all of them. Window `without` is left out.
fn shares(nodes: &[Node], parents: &[u32], without: Option<usize>) -> Vec<f64> {
    let count = |node: &Node| {
        let kept = node.ends.iter().enumerate().filter(|(w, _)| Some(*w) != without);
        kept.fold((0.0, 0.0), |(all, fired), (_, e)| (all + f64::from(e.0), fired + f64::from(e.1)))
    };
    let (all, fired) = nodes[1..].iter().map(count).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
    // Half a position of either kind keeps this a share where nothing was counted.
    let mut shares = vec![(fired + 0.5) / (all + 1.0); nodes.len()];
    for i in 1..nodes.len() {
        let (all, fired) = count(&nodes[i]);
        shares[i] = (fired + PRIOR * shares[parents[i] as usize]) / (all + PRIOR);
    }
    shares
}

/// The threshold on shares with the best F1 on windows that their shares do not know.
fn threshold(nodes: &[Node], parents: &[u32], ends: &[(usize, u32, bool)], windows: usize) -> f64 {
    let without: Vec<Vec<f64>> = (0..windows).map(|w| shares(nodes, parents, Some(w))).collect();
    let f1 = |threshold: f64| {
        let mut counts = super::record::Counts::default();
        for &(w, end, fires) in ends {
            counts.add(fires, end != 0 && without[w][end as usize] >= threshold);
        }
        counts.f1()
    };
    let tried: Vec<(f64, f64)> = STEPS.map(|i| i as f64 / 40.0).map(|threshold| (threshold, f1(threshold))).collect();
    let best = tried.iter().map(|x| x.1).fold(0.0, f64::max);
    tried.iter().find(|x| x.1 >= best - SLACK).map_or(0.0, |x| x.0)
}

#[cfg(test)]
mod tests {
    use super::super::trie::Choice;
    use super::super::vocabulary::Fold;
    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary::new((0..30).map(|i| format!("t{i}")).collect(), Fold::Exact)
    }
    /// A line of literals, the firing token first.
    fn line(keys: &[u32]) -> Line {
        let element = |key: &u32| Element { key: *key, importance: 0.9, activation: 1.0, activates: true };
        Line { elements: keys.iter().map(element).collect(), value: 1.0 }
    }
    /// Whether the last token of `keys` fires.
    fn fires(trie: &Trie, keys: &[u32]) -> bool {
        trie.predict(keys, keys.len() - 1, Choice::Deepest).unwrap_or(0.0) >= 0.5
    }

    #[test]
    fn a_token_that_needs_its_context_fires_only_there() {
        // 5 fires behind 1 and on nothing else, though it stands in many places.
        let tokens = [1, 5, 2, 5, 3, 5, 4, 5, 6, 5, 7, 5, 1, 5];
        let act: Vec<f64> = (0..14).map(|t| if t % 2 == 1 && tokens[t - 1] == 1 { 0.9 } else { 0.0 }).collect();
        let one = Evidence { window: Window { tokens: &tokens, act: &act }, lines: vec![line(&[5, 1]), line(&[5, 1])] };
        let trie = fit(&vec![one; 6], &vocabulary(), 0.5);
        assert!(fires(&trie, &[1, 5]) && !fires(&trie, &[2, 5]) && !fires(&trie, &[5]) && !fires(&trie, &[1]));
        assert_eq!(trie.nodes.len(), 3, "what never fires is not there");
        assert!(trie.predict(&[1, 5], 1, Choice::Deepest).is_some_and(|value| (value - 0.9).abs() < 1e-12));
    }

    #[test]
    fn a_token_that_fires_everywhere_needs_no_context() {
        let tokens = [1, 5, 2, 5, 3, 5, 8, 9];
        let act = [0.0, 0.8, 0.0, 0.6, 0.0, 1.0, 0.0, 0.0];
        let of = |lines| Evidence { window: Window { tokens: &tokens, act: &act }, lines };
        let trie = fit(&[of(vec![line(&[5, 1])]), of(vec![line(&[5, 2])]), of(vec![line(&[5, 3])])], &vocabulary(), 0.5);
        assert!(fires(&trie, &[7, 5]) && fires(&trie, &[5]) && !fires(&trie, &[9]));
    }

    #[test]
    fn a_window_says_nothing_of_its_own_lines() {
        // Each window fires on a token of its own behind a context of its own: nothing is known of any.
        let windows: Vec<([u32; 2], [f64; 2])> = (0..5).map(|w| ([w + 10, w], [0.0, 1.0])).collect();
        let evidence: Vec<Evidence> = windows
            .iter()
            .map(|(tokens, act)| Evidence { window: Window { tokens, act }, lines: vec![line(&[tokens[1], tokens[0]])] })
            .collect();
        let trie = fit(&evidence, &vocabulary(), 0.5);
        assert!((0..5).all(|w| fires(&trie, &[w + 10, w]) && fires(&trie, &[w])));
        assert!(fit(&[], &vocabulary(), 0.5) == Trie::new());
    }
}
