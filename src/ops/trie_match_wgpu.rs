//! The wgpu launcher of [`super::trie_match`]: the arrays of the tries lie on the device, one behind the other, as long as
//! anybody holds them.

use super::forest::Forest;
use super::offload::{Scratch, WgpuPlace};
use super::trie_match::Args;
use crate::device::wgpu::Recorded;
use crate::error::Result;
use crate::kernel::wgsl::Limits;
use crate::kernel::wgsl::trie_match::{TRIE_MATCH, TrieMatchParams, configuration, groups};

/// Elements of all arrays.
fn len(f: &Forest) -> usize {
    f.arrays().iter().map(|array| array.len()).sum::<usize>() + f.value.len()
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    let v = &a.values;
    let agrees = (a.first.len, a.slots.len, v.cols) == (a.keys.len, a.keys.len + 1, 1) && a.keys.len > 0 && v.rows > 0;
    let span = v.rows.saturating_mul(v.stride.max(1));
    let fits = agrees && [a.slots.len, span, len(&a.forest)].into_iter().all(|n| n <= limits.binding && n < 1 << 31);
    fits.then(Scratch::new)
}

/// The launch of an operation for which there is a kernel.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let f = &a.forest;
    let held = at.shared(f, || f.bytes())?;
    let mut next = 0;
    let places = f.arrays().map(|array| {
        let here = next;
        next += array.len() as u32;
        here
    });
    let [_, root_node, root_neuron, offsets, key, first_child, children, wildcard, start] = places;
    let mut storage = at.storage();
    let (keys_at, first_at, slots_at) = (storage.ints(a.keys)?, storage.ints(a.first)?, storage.ints(a.slots)?);
    storage.read_buffer(&held, 0..len(f))?;
    let params = TrieMatchParams {
        rows: a.keys.len as u32,
        capacity: a.values.rows as u32,
        lists: f.keys() as u32,
        choice: f.choice.number(),
        keys_at,
        first_at,
        slots_at,
        values_offset: storage.write(&a.values)?,
        values_stride: a.values.stride as u32,
        root_node,
        root_neuron,
        offsets,
        key,
        first_child,
        children,
        wildcard,
        start,
        value: next,
    };
    Ok(vec![at.record(&TRIE_MATCH, &configuration(), storage, &params, groups(params.rows))?])
}
