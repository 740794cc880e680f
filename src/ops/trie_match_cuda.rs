//! The CUDA launcher of [`super::trie_match`]: the arrays of the tries lie on the device as long as anybody holds them.

use super::forest::Choice;
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
    let arrays =
        [&f.root_offsets, &f.root_node, &f.root_neuron, &f.offsets, &f.key, &f.first_child, &f.children, &f.wildcard, &f.start];
    // One block of memory, the values behind the numbers of nodes.
    let bytes = || {
        let numbers = arrays.iter().flat_map(|array| bytemuck::cast_slice::<u32, u8>(array));
        numbers.chain(bytemuck::cast_slice(&f.value)).copied().collect()
    };
    let base = at.shared(f, bytes)?;
    let mut next = base;
    let mut place = |len: usize| {
        let here = next;
        next += 4 * len as u64;
        here
    };
    let [root_offsets, root_node, root_neuron, offsets, key, first_child, children, wildcard, start] =
        arrays.map(|array| place(array.len()));
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
        choice: match f.choice {
            Choice::Deepest => 0,
            Choice::Shallowest => 1,
            Choice::Largest => 2,
        },
    };
    Ok(vec![at.call(&TRIE_MATCH, &configuration(at.dtype()), grid(params.rows), &params)?])
}
