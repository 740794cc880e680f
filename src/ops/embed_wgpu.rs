//! The wgpu launchers of [`super::embed`] and [`super::token_embed`]: one launch for each output and for each part of
//! the table of tokens that a binding holds.

use super::embed::Args;
use super::extents::fit;
use super::offload::{Scratch, WgpuPlace};
use super::pieces::{holds, spans};
use super::token_embed;
use crate::device::wgpu::Recorded;
use crate::device::{IntBuffer, Stored, Tensor, View};
use crate::error::Result;
use crate::kernel::sheet::Sheet;
use crate::kernel::wgsl::embed::{self, BRAIN, EMBED, EmbedParams, HAS_POSITION, HAS_ROW, HAS_TOKEN, LISTED};
use crate::kernel::wgsl::{Limits, flags};

/// Whether bindings hold the outputs, the positions and one token at least.
fn bound(outputs: &[View], w_e: &Tensor, w_pos: Option<&Tensor>, limits: &Limits) -> bool {
    let positions = w_pos.is_none_or(|w| w.rows > 0 && holds(w, limits.binding));
    fit(outputs) && outputs.iter().all(|v| spans(v, limits.binding)) && positions && w_e.rows > 0 && w_e.cols <= limits.binding
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn fits(a: &Args, limits: &Limits) -> Option<Scratch> {
    let outputs: Vec<View> = [Some(a.y), a.token_out, a.pos_out].into_iter().flatten().collect();
    bound(&outputs, &a.w_e, Some(&a.w_pos), limits).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn bind(a: &Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let whole = Sum { tokens: Some((a.tokens, &a.w_e, 1.0)), positions: Some((None, &a.w_pos)), row: None, seq: a.seq, y: a.y };
    let parts = [
        Some(whole),
        a.token_out.map(|y| Sum { positions: None, y, ..whole }),
        a.pos_out.map(|y| Sum { tokens: None, y, ..whole }),
    ];
    let parts: Result<Vec<Vec<Recorded>>> = parts.iter().flatten().map(|sum| sum.bind(at)).collect();
    Ok(parts?.concat())
}

/// Scratch memory; `None` where there is no kernel.
pub(super) fn token_fits(a: &token_embed::Args, limits: &Limits) -> Option<Scratch> {
    bound(&[a.y], &a.w_e, a.w_pos.as_ref(), limits).then(Scratch::new)
}

/// The launches of an operation for which there is a kernel.
pub(super) fn token_bind(a: &token_embed::Args, at: &WgpuPlace) -> Result<Vec<Recorded>> {
    let sum = Sum {
        tokens: Some((a.tokens, &a.w_e, a.scale.unwrap_or(1.0))),
        positions: a.w_pos.as_ref().map(|w| (Some(a.positions), w)),
        row: a.row.as_ref(),
        seq: 1,
        y: a.y,
    };
    sum.bind(at)
}

/// What is added to a row of y.
#[derive(Clone, Copy)]
struct Sum<'a> {
    /// Tokens, their table, and what it is scaled by.
    tokens: Option<(IntBuffer, &'a Tensor, f64)>,
    /// Positions, the rows modulo `seq` where there are none, and their table.
    positions: Option<(Option<IntBuffer>, &'a Tensor)>,
    row: Option<&'a Tensor>,
    seq: usize,
    y: View,
}

impl Sum<'_> {
    fn bind(&self, at: &WgpuPlace) -> Result<Vec<Recorded>> {
        let Some((_, w_e, _)) = self.tokens else { return Ok(vec![self.part(at, 0..0)?]) };
        let each = at.limits().binding / w_e.cols;
        let parts = (0..w_e.rows).step_by(each).map(|from| self.part(at, from..w_e.rows.min(from + each)));
        parts.collect()
    }
    /// The launch for the tokens of a range.
    fn part(&self, at: &WgpuPlace, range: std::ops::Range<usize>) -> Result<Recorded> {
        let y = &self.y;
        let sheet = Sheet::new(y.rows as u32, y.cols as u32, embed::DEEP);
        let listed = self.positions.and_then(|(listed, _)| listed);
        let mut storage = at.storage();
        let tokens_offset = storage.ints_if(self.tokens.map(|(tokens, ..)| tokens))?;
        let positions_offset = storage.ints_if(listed)?;
        let (w_e_offset, stored) = storage.weight_rows(self.tokens.map(|(_, w_e, _)| w_e), range.clone())?;
        storage.weight_if(self.positions.map(|(_, w_pos)| w_pos))?;
        storage.weight_if(self.row)?;
        let set = [
            (self.tokens.is_some(), HAS_TOKEN),
            (self.positions.is_some(), HAS_POSITION),
            (self.row.is_some(), HAS_ROW),
            (listed.is_some(), LISTED),
            (stored == Stored::BF16, BRAIN),
        ];
        let params = EmbedParams {
            rows: y.rows as u32,
            cols: y.cols as u32,
            seq: self.seq as u32,
            first_token: range.start as u32,
            tokens_bound: range.len() as u32,
            positions_bound: self.positions.map_or(0, |(_, w)| w.rows) as u32,
            tokens_offset,
            positions_offset,
            w_e_offset,
            y_offset: storage.write(y)?,
            y_stride: y.stride as u32,
            scale: self.tokens.map_or(1.0, |(.., scale)| scale) as f32,
            flags: flags(set),
            log_columns: sheet.log_columns,
            column_tiles: sheet.tiles[1],
        };
        at.record(&EMBED, &embed::configuration(stored.bytes() == 2), storage, &params, sheet.count())
    }
}
