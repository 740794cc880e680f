//! The parameters of the method and the modes that preset them.

use serde::Serialize;

use super::vocabulary::Fold;

/// A preset of [`Settings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// This project's own: several pivots a window, exact tokens, values fitted on the training windows.
    Default,
    /// The published code (apartresearch/Neuron2Graph).
    Reference,
    /// The algorithm as Foote et al. 2023 describe it.
    Paper,
    /// The variant of openai/sparse_autoencoder (Gao et al. 2024).
    OpenAi,
}

/// The suffix lengths that pruning tries, shortest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lengths {
    /// `n`, `2 n`, `3 n`, .. up to the cutoff, and the whole context where it is not longer than that.
    Step(usize),
    /// 1, 2, 3, 4, then each half as long again as the one before, and the whole context or the cutoff.
    Growing,
}

/// Which lines a prompt gives, and how they become values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Build {
    /// One line for each token that fires; the first to come sets a value; wildcards are merged.
    Merged,
    /// One line for the pivot; the first to come sets a value.
    Pivots,
    /// One line for the pivot, of raw activations; the last to come sets a value.
    Raw,
    /// One line for the pivot; values are those of the training windows that match.
    Fitted,
}

/// All parameters. Each has a flag.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    pub mode: Mode,
    /// The id that stands for a masked token.
    pub mask_token: u32,
    /// The id in front of every prompt, if the windows begin with one.
    pub bos: Option<u32>,
    /// A token is a pivot if its activation is at least this part of its window's maximum; at 1 the first
    /// maximum alone.
    pub pivot_share: f64,
    /// The most pivots a window.
    pub pivots: usize,
    pub lengths: Lengths,
    /// The most tokens of a suffix, the pivot included.
    pub prune_cutoff: Option<usize>,
    /// A suffix passes with this part of the activation in the window.
    pub prune_ratio: f64,
    /// It passes with more than that part, and if the pivot is its maximum; otherwise with that part or more.
    pub prune_argmax: bool,
    /// The most tokens behind the pivot, in its sentence, that a prompt keeps.
    pub post_context: usize,
    /// Activations of a prompt are multiplied so that the pivot's is that in the window.
    pub rescale: bool,
    /// A token is part of a pattern with an importance above this (with [`Build::Raw`]: of this or more).
    pub importance_threshold: f64,
    /// A token gives a line with a normalised activation above this.
    pub activation_threshold: f64,
    /// A token fires with this normalised activation or more.
    pub fire_threshold: f64,
    /// Tells patterns that hold only at the start of a text.
    pub anchor: bool,
    pub build: Build,
    #[serde(skip)]
    pub fold: Fold,
    /// Substitutes of a word.
    pub substitutes: usize,
    /// The importance from which on a word is substituted.
    pub substitute_threshold: f64,
    /// The least probability of a substitute, where a masked language model proposes them.
    pub substitute_floor: f64,
}

impl Settings {
    /// The preset of a mode.
    pub fn of(mode: Mode, mask_token: u32, bos: Option<u32>) -> Self {
        let reference = Self {
            mode,
            mask_token,
            bos,
            pivot_share: 1.0,
            pivots: 1,
            lengths: Lengths::Step(5),
            prune_cutoff: Some(30),
            prune_ratio: 0.5,
            prune_argmax: true,
            post_context: 5,
            rescale: true,
            importance_threshold: 0.75,
            activation_threshold: 0.5,
            fire_threshold: 0.5,
            anchor: false,
            build: Build::Merged,
            fold: Fold::Normalised,
            substitutes: 5,
            substitute_threshold: 0.8,
            substitute_floor: 1e-5,
        };
        let paper = Self {
            lengths: Lengths::Step(1),
            prune_cutoff: None,
            prune_argmax: false,
            post_context: 0,
            rescale: false,
            build: Build::Pivots,
            ..reference.clone()
        };
        match mode {
            Mode::Reference => reference,
            Mode::Paper => paper,
            Mode::OpenAi => Self { importance_threshold: 0.5, anchor: true, build: Build::Raw, fold: Fold::Exact, ..paper },
            Mode::Default => Self {
                pivot_share: 0.5,
                pivots: 4,
                lengths: Lengths::Growing,
                prune_cutoff: Some(32),
                rescale: true,
                importance_threshold: 0.5,
                build: Build::Fitted,
                fold: Fold::Exact,
                ..paper
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trie::Choice;
    use super::*;

    #[test]
    fn the_published_modes_choose_the_values_of_a_walk_as_published() {
        let of = |mode| Settings::of(mode, 0, None);
        assert_eq!((of(Mode::Reference).choice(), of(Mode::Reference).unit(4.0)), (Choice::Deepest, 1.0));
        assert_eq!(of(Mode::Paper).choice(), Choice::Largest);
        assert_eq!((of(Mode::OpenAi).choice(), of(Mode::OpenAi).unit(4.0)), (Choice::Shallowest, 4.0));
    }
}
