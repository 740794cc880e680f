//! The CUDA launcher of [`super::trie_match`]: the arrays of the tries lie on the device as long as anybody holds them.

use super::offload::Place;
use super::trie_match::Args;
use crate::device::DType;
use crate::device::cuda::Call;
use crate::error::Result;
use crate::kernel::trie_match::{TRIE_MATCH, TrieMatchParams, configuration, grid};
use crate::kernel::tuning::Limits;

/// Bytes of scratch memory; `None` where there is no kernel.
pub(super) fn scratch(a: &Args, _: DType, _: &Limits) -> Option<u64> {
    let fits = a.keys.len.max(a.values.rows).max(a.values.stride) < 1 << 30;
    (fits && a.keys.len > 0 && a.values.rows > 0).then_some(0)
}

/// The call of a launch.
pub(super) fn bind(a: &Args, at: &mut Place) -> Result<Vec<Call>> {
    let f = &a.forest;
    let mut next = at.shared(f, || f.bytes())?;
    let places = f.arrays().map(|array| {
        let here = next;
        next += 4 * array.len() as u64;
        here
    });
    let [root_offsets, root_node, root_neuron, offsets, key, first_child, children, wildcard, start] = places;
    let params = TrieMatchParams {
        keys: at.ints(a.keys),
        first: at.ints(a.first),
        slots: at.ints(a.slots),
        values: at.view(&a.values),
        root_offsets,
        root_node,
        root_neuron,
        offsets,
        key,
        first_child,
        children,
        wildcard,
        start,
        value: next,
        rows: a.keys.len as u32,
        capacity: a.values.rows as u32,
        stride: a.values.stride as u32,
        lists: f.keys() as u32,
        choice: f.choice.number(),
    };
    Ok(vec![at.call(&TRIE_MATCH, &configuration(at.dtype()), grid(params.rows), &params)?])
}
