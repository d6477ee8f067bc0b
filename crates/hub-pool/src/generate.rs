//! Traces that are drawn: a seed gives the same requests every time, wherever logarithms are rounded alike.
//!
//! The models are those of one person with a card of 16 GB, by the sizes that their files have, each with what a conversation or a
//! picture takes besides. A load lasts 0.7 s and 1 s for each 3 GB, as from a page cache over PCIe into packed weights.

use crate::{Request, Trace, TracedModel};

/// What models may take: four fifths of 16 GiB.
const BUDGET: u64 = 13_743_895_347;
/// Names, and what each takes in megabytes.
const MODELS: [(&str, u64); 9] = [
    ("chat-8b-q4", 6_200),
    ("code-14b-q4", 9_800),
    ("moe-30b-a3b-q3", 12_600),
    ("complete-1.5b-q8", 1_700),
    ("embed-0.6b-q8", 800),
    ("whisper-turbo", 1_900),
    ("speak-82m", 500),
    ("image-sdxl", 7_000),
    ("train-1.5b-lora", 5_500),
];
const CHAT: usize = 0;
const CODE: usize = 1;
const MOE: usize = 2;
const COMPLETE: usize = 3;
const EMBED: usize = 4;
const HEAR: usize = 5;
const SPEAK: usize = 6;
const IMAGE: usize = 7;
const TRAIN: usize = 8;

/// A day of one person: code with completions, conversations with and without documents, a large model for hard questions, pictures,
/// voice in the evening, and a training at noon.
pub fn mixed_day(seed: u64) -> Trace {
    let mut day = Day::new(seed);
    day.now = 8.0 * HOUR;
    let mut has_trained = false;
    while day.now < 23.0 * HOUR {
        let hour = day.now / HOUR;
        if hour > 12.5 && !has_trained {
            has_trained = true;
            day.ask(TRAIN, 2_400.0);
            day.now -= 2_400.0;
            // What is said meanwhile fits beside it.
            let turns = day.count(3.0);
            day.talk(turns, Kind::Plain);
            day.now = day.now.max(13.4 * HOUR);
        }
        let is_work = (9.0..12.5).contains(&hour) || (13.4..18.0).contains(&hour);
        let (kind, few, many) = (day.part(), day.count(3.0), day.count(5.0));
        match (is_work, kind) {
            (true, ..0.5) => day.code(),
            (true, ..0.75) => day.talk(few, Kind::Documents),
            (true, ..0.87) => day.talk(few, Kind::Hard),
            (false, ..0.5) => day.talk(many + 1, Kind::Voice),
            (false, ..0.75) => day.talk(many + 1, Kind::Documents),
            (true, _) => day.pictures(few),
            (false, _) => day.pictures(many),
        }
        day.rest(240.0);
    }
    day.trace()
}

/// Three large models that do not fit beside each other, in turn, with some of the others between: what no rule does well.
pub fn alternation(seed: u64) -> Trace {
    let mut day = Day::new(seed);
    for at in 0..400 {
        let model = if day.part() < 0.8 { [CHAT, IMAGE, CODE][at % 3] } else { day.below(8) };
        day.ask(model, 3.0);
        day.rest(20.0);
    }
    day.trace()
}

/// Bursts of requests to one model, then to another.
pub fn bursts(seed: u64) -> Trace {
    let mut day = Day::new(seed);
    for _ in 0..60 {
        let (model, count) = (day.below(8), day.count(12.0));
        for _ in 0..count {
            day.ask(model, 2.0);
            day.rest(5.0);
        }
        day.rest(300.0);
    }
    day.trace()
}

const HOUR: f64 = 3_600.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Documents,
    Voice,
    Hard,
}

struct Day {
    random: u64,
    now: f64,
    requests: Vec<Request>,
}

impl Day {
    fn new(seed: u64) -> Self {
        Self { random: seed, now: 0.0, requests: Vec::new() }
    }

    /// Draws a number from 0 to 1 (SplitMix64, Steele et al. 2014).
    fn part(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Draws a time with this mean, most of them shorter.
    fn time(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.part()).ln()
    }

    fn count(&mut self, mean: f64) -> usize {
        1 + self.time(mean) as usize
    }

    fn below(&mut self, count: usize) -> usize {
        ((self.part() * count as f64) as usize).min(count - 1)
    }

    fn rest(&mut self, mean: f64) {
        self.now += 1.0 + self.time(mean);
    }

    fn ask(&mut self, model: usize, length_s: f64) {
        self.requests.push(Request { at: self.now, model, length_s });
        self.now += length_s;
    }

    fn talk(&mut self, turns: usize, kind: Kind) {
        for _ in 0..turns {
            if kind == Kind::Voice {
                self.ask(HEAR, 0.8);
            }
            if kind == Kind::Documents {
                self.ask(EMBED, 0.2);
            }
            let length = 4.0 + self.time(8.0);
            self.ask(if kind == Kind::Hard { MOE } else { CHAT }, length);
            if kind == Kind::Voice {
                self.ask(SPEAK, 1.2);
            }
            self.rest(40.0);
        }
    }

    fn code(&mut self) {
        let end = self.now + 480.0 + self.time(1_500.0);
        while self.now < end {
            let kind = self.part();
            if kind < 0.72 {
                self.ask(COMPLETE, 0.4);
                self.rest(9.0);
            } else {
                if kind < 0.85 {
                    self.ask(EMBED, 0.2);
                }
                let length = 8.0 + self.time(15.0);
                self.ask(CODE, length);
                self.rest(40.0);
            }
        }
    }

    fn pictures(&mut self, count: usize) {
        for _ in 0..count {
            if self.part() < 0.6 {
                let length = 3.0 + self.time(3.0);
                self.ask(CHAT, length);
                self.rest(3.0);
            }
            self.ask(IMAGE, 9.0);
            self.rest(25.0);
        }
    }

    fn trace(mut self) -> Trace {
        self.requests.sort_by(|a, b| a.at.total_cmp(&b.at));
        let model = |(name, megabytes): &(&str, u64)| TracedModel {
            name: (*name).to_owned(),
            bytes: megabytes * 1_000_000,
            load_s: 0.7 + *megabytes as f64 / 3_000.0,
        };
        Trace { budget_bytes: BUDGET, models: MODELS.iter().map(model).collect(), requests: self.requests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Policy, optimum, simulate};

    /// Waiting of each rule to the least that is possible, over some seeds.
    fn ratios(generate: fn(u64) -> Trace) -> [f64; 3] {
        let traces: Vec<Trace> = (1..6).map(generate).collect();
        let least: f64 = traces.iter().map(|trace| optimum(trace).unwrap()).sum();
        [Policy::Forecast, Policy::LeastRecentlyUsed, Policy::Name]
            .map(|policy| traces.iter().map(|trace| simulate(trace, policy).load_s).sum::<f64>() / least)
    }

    #[test]
    fn what_is_expected_to_cost_least_is_near_to_what_costs_least() {
        for (name, generate) in
            [("day", mixed_day as fn(u64) -> Trace), ("alternation", alternation), ("bursts", bursts)]
        {
            let [ours, recent, by_name] = ratios(generate);
            assert!(ours <= 1.15 && ours <= recent && ours <= by_name, "{name}: {ours} {recent} {by_name}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_day() {
        let day = mixed_day(3);
        assert_eq!(day, mixed_day(3));
        assert_ne!(day, mixed_day(4));
        assert!(
            day.requests.len() > 500
                && Trace::parse(&day.to_text()).unwrap().requests.len() == day.requests.len()
        );
    }
}
