use std::ops::Range;

use super::{Input, Segment, Want};
use crate::{Error, spec::ModelSpec, state::MAX_STEP_TOKENS};

/// Where the rows of one segment are, in the step and in their sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) count: usize,
    pub(super) position: usize,
    pub(super) span: usize,
}

/// Checks which layers a call names, and tells whether the last is among them.
pub(super) fn ends_model(spec: &ModelSpec, layers: &Range<usize>, want: Want) -> Result<bool, Error> {
    let count = spec.layers.len();
    if layers.start > layers.end || layers.end > count || (want == Want::Head && layers.end != count) {
        return Err(Error::Rows { reason: format!("layers {layers:?} of {count}") });
    }
    if spec.streams.is_some() && *layers != (0..count) {
        let reason = "several residual streams are no hidden state that could leave or enter between layers";
        return Err(Error::Rows { reason: reason.to_owned() });
    }
    Ok(layers.end == count)
}

/// Fills `places` with those of all segments, and checks that each fits the model and its state.
pub(super) fn find_places(
    spec: &ModelSpec,
    segments: &[Segment<'_>],
    places: &mut Vec<Place>,
) -> Result<(), Error> {
    places.clear();
    let mut start = 0;
    for segment in segments {
        let count = segment.input.rows(spec.hidden_size);
        let position = segment.state.as_ref().map_or(0, |state| state.tokens());
        check_segment(spec, segment, count, position)?;
        places.push(Place { start, count, position, span: segment.span.max(position + count) });
        start += count;
    }
    Ok(())
}

fn check_segment(
    spec: &ModelSpec,
    segment: &Segment<'_>,
    count: usize,
    position: usize,
) -> Result<(), Error> {
    let fail = |reason: String| Err(Error::Rows { reason });
    if count == 0 {
        return fail("a segment without rows".to_owned());
    }
    if segment.state.is_some() != spec.keeps_state() {
        return fail("a state is needed by decoders, and by no other model".to_owned());
    }
    if let Some(state) = &segment.state {
        let room = state.groups.iter().map(|table| table.capacity()).min().unwrap_or(0);
        if count > MAX_STEP_TOKENS || position + count > room {
            return fail(format!("{count} rows at position {position}, where there is room to {room}"));
        }
    }
    if position + count > spec.context_tokens && spec.embedding.positions.is_some() {
        return fail(format!("{count} rows are more than {} learned positions", spec.context_tokens));
    }
    if let Input::Hidden(values) = segment.input
        && values.len() != count * spec.hidden_size
    {
        return fail(format!("{} numbers are no rows of {}", values.len(), spec.hidden_size));
    }
    Ok(())
}
