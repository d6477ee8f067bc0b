//! Rows as they come in: tokens looked up, and each layer's part of a second embedding.

use std::ops::Range;

use super::{Pending, Step};
use crate::executor::cpu::{Layer, Linear, Model, layer::maybe, plan::Scratch};
use crate::{
    Error,
    executor::{Input, Segment},
};

impl Step<'_> {
    /// Writes the rows before the first layer of the call.
    pub(super) fn enter(&self, x: &mut [f32], layers: &Range<usize>) -> Result<(), Error> {
        let width = self.spec.hidden_size;
        let fail = |reason: String| Err(Error::Rows { reason });
        let is_hidden = |segment: &Segment<'_>| matches!(segment.input, Input::Hidden(_));
        let hidden = self.segments.iter().filter(|segment| is_hidden(segment)).count();
        if hidden == self.segments.len() {
            for (segment, place) in self.segments.iter().zip(self.places) {
                if let Input::Hidden(values) = segment.input {
                    x[place.start * width..(place.start + place.count) * width].copy_from_slice(values);
                }
            }
            return Ok(());
        }
        if hidden > 0 || layers.start != 0 {
            return fail("tokens enter at layer 0, and never beside hidden states".to_owned());
        }
        for (segment, place) in self.segments.iter().zip(self.places) {
            let (tokens, types) = match segment.input {
                Input::Tokens(tokens) => (tokens, None),
                Input::TypedTokens(tokens, types) => (tokens, Some(types)),
                Input::Hidden(_) => continue,
            };
            if types.is_some_and(|types| types.len() != tokens.len()) {
                return fail("there is one type for each token".to_owned());
            }
            if let Some(id) = tokens.iter().find(|id| **id as usize >= self.spec.vocab_size) {
                return fail(format!("token {id} is outside the vocabulary of {}", self.spec.vocab_size));
            }
            let part = &mut x[place.start * width..(place.start + place.count) * width];
            let type_of = |row: usize| types.map_or(0, |types| types[row] as usize);
            if let Some(known) = &self.model.token_types
                && let Some(row) = (0..tokens.len()).find(|row| known.row(type_of(*row)).is_none())
            {
                return fail(format!("there is no token type {}", type_of(row)));
            }
            self.cpu.each_chunk(part, width, |row, out| {
                self.embed(tokens[row] as usize, type_of(row), place.position + row, out);
            });
        }
        Ok(())
    }

    pub(super) fn embed(&self, token: usize, token_type: usize, position: usize, out: &mut [f32]) {
        let Model { table, positions, token_types, embedding_norm, .. } = self.model;
        let spec = &self.spec.embedding;
        table.unpack(token, out);
        if spec.scale != 1.0 {
            out.iter_mut().for_each(|number| *number *= spec.scale);
        }
        let learned = positions.as_ref().zip(spec.positions.as_ref());
        let learned = learned.and_then(|(table, learned)| table.row(position + learned.offset));
        let typed = token_types.as_ref().and_then(|table| table.row(token_type));
        for row in [learned, typed].into_iter().flatten() {
            out.iter_mut().zip(row).for_each(|(out, number)| *out += number);
        }
        maybe(embedding_norm.as_ref(), out, self.cpu.isa());
    }

    /// Adds the layer's part of the second embedding, and returns what is left to be added.
    pub(super) fn take_part<'l>(
        &self,
        scratch: &mut Scratch,
        layer: &'l Layer,
        index: usize,
        rows: usize,
    ) -> Option<Pending<'l>> {
        let pending =
            Pending { norms: &layer.mlp_norms, scale: layer.residual_scale, then: layer.output_scale };
        if let Some(altup) = &layer.altup {
            self.correct(scratch, (layer, altup, index), pending, rows);
            return None;
        }
        let Some(per_layer) = &layer.per_layer else { return Some(pending) };
        let pending = Pending { then: 1.0, ..pending };
        self.norm_in(scratch, rows, Some(pending), None, Linear::forms([&per_layer.gate]));
        let Scratch { y, inputs, inner, parts, .. } = scratch;
        let y = &mut y[..rows * self.spec.hidden_size];
        per_layer.run(inputs, index, (parts, self.spec.layers.len()), inner, y, self.cpu);
        Some(Pending { norms: &per_layer.norms, scale: 1.0, then: layer.output_scale })
    }

    /// Computes the parts of the second embedding.
    pub(super) fn make_parts(&self, scratch: &mut Scratch) -> Result<(), Error> {
        let Some(table) = &self.model.per_layer else { return Ok(()) };
        let Scratch { x, inputs, parts, .. } = scratch;
        parts.tokens.clear();
        let fail = |reason: String| Err(Error::Rows { reason });
        for segment in self.segments {
            match segment.input {
                Input::Tokens(tokens) | Input::TypedTokens(tokens, _) => {
                    parts.tokens.extend_from_slice(tokens);
                }
                Input::Hidden(_) => {
                    return fail("this model's layers need the tokens, not hidden states alone".to_owned());
                }
            }
        }
        for token in parts.tokens.iter_mut().filter(|token| **token as usize >= table.vocab_size) {
            match table.other_token {
                Some(other) => *token = other,
                None => {
                    let known = table.vocab_size;
                    return fail(format!("token {token} is outside the second embedding of {known}"));
                }
            }
        }
        table.fill(x, inputs, parts, self.cpu);
        Ok(())
    }
}
