use hub::{
    config::KeepAlive,
    models::{GenerateOptions, Preset, SamplingOptions},
};
use serde_json::{Map, Value};

/// How answers are asked for: flags of the command, and what `/set` changes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Settings {
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    pub(super) system: Option<String>,
    /// 0 takes the likeliest token each time, 1 draws freely
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// The longest answer, in tokens
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least_one)]
    max_tokens: Option<usize>,
    /// Makes answers repeatable
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<i64>,
    /// Whether a model that can think does
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    think: Option<bool>,
    /// How long a server keeps the model afterwards: 30m, forever
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    keepalive: Option<KeepAlive>,
    #[arg(skip)]
    top_k: Option<u32>,
    #[arg(skip)]
    top_p: Option<f32>,
    #[arg(skip)]
    min_p: Option<f32>,
    #[arg(skip)]
    repetition_penalty: Option<f32>,
    #[arg(skip)]
    presence_penalty: Option<f32>,
    #[arg(skip)]
    frequency_penalty: Option<f32>,
    #[arg(skip)]
    stop: Vec<String>,
    /// Says after each answer what it took.
    #[arg(skip)]
    pub(super) is_verbose: bool,
}

/// What `/set parameter` takes, as Ollama names them.
pub(super) const PARAMETERS: &str = "temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, \
    frequency_penalty, seed, num_predict, stop";

impl Settings {
    /// Returns them as this process takes them.
    pub(super) fn options(&self) -> GenerateOptions {
        let mut options = GenerateOptions::default().sampling(self.sampling());
        options.max_tokens = self.max_tokens;
        options.cuts_max_tokens = true;
        options.stop.clone_from(&self.stop);
        options
    }

    /// Returns them as a server takes them; also what `/set` shows.
    pub(super) fn parameters(&self) -> Map<String, Value> {
        let mut all = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                all.insert(name.to_owned(), value);
            }
        };
        // As people write it: 0.7 is no number of 32 bits, and would be shown with all the digits of the nearest.
        let short =
            |value: Option<f32>| value.and_then(|value| serde_json::from_str(&value.to_string()).ok());
        put("temperature", short(self.temperature));
        put("top_k", self.top_k.map(Value::from));
        put("top_p", short(self.top_p));
        put("min_p", short(self.min_p));
        put("repeat_penalty", short(self.repetition_penalty));
        put("presence_penalty", short(self.presence_penalty));
        put("frequency_penalty", short(self.frequency_penalty));
        put("seed", self.seed.map(Value::from));
        put("num_predict", self.max_tokens.map(Value::from));
        put("stop", Some(Value::from(self.stop.clone())).filter(|_| !self.stop.is_empty()));
        all
    }

    fn sampling(&self) -> SamplingOptions {
        let mut sampling = SamplingOptions::default();
        sampling.temperature = self.temperature;
        sampling.top_k = self.top_k;
        sampling.top_p = self.top_p;
        sampling.min_p = self.min_p;
        sampling.repetition_penalty = self.repetition_penalty;
        sampling.presence_penalty = self.presence_penalty;
        sampling.frequency_penalty = self.frequency_penalty;
        sampling.seed = self.seed.map(i64::cast_unsigned);
        sampling
    }

    /// Checks that the values mean something.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut preset = Preset::default();
        preset.sampling = self.sampling();
        preset.stop.clone_from(&self.stop);
        preset.check().map_err(|error| error.to_string())
    }

    /// Sets one by the name that Ollama gives it.
    ///
    /// # Errors
    /// What is wrong with the name or the value.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        fn read<T: std::str::FromStr>(name: &str, value: &str) -> Result<Option<T>, String> {
            value.parse().map(Some).map_err(|_| format!("{value:?} is no value for {name}"))
        }
        let before = self.clone();
        match name {
            "temperature" => self.temperature = read(name, value)?,
            "top_k" => self.top_k = read(name, value)?,
            "top_p" => self.top_p = read(name, value)?,
            "min_p" => self.min_p = read(name, value)?,
            "repeat_penalty" | "repetition_penalty" => self.repetition_penalty = read(name, value)?,
            "presence_penalty" => self.presence_penalty = read(name, value)?,
            "frequency_penalty" => self.frequency_penalty = read(name, value)?,
            "seed" => self.seed = read(name, value)?,
            "num_predict" | "max_tokens" => {
                self.max_tokens = read::<usize>(name, value)?.filter(|tokens| *tokens > 0);
            }
            "stop" if value.is_empty() => self.stop.clear(),
            "stop" => self.stop.push(value.to_owned()),
            _ => return Err(format!("there is no parameter {name}; there are {PARAMETERS}")),
        }
        self.check().inspect_err(|_| *self = before)
    }

    pub(super) fn set_think(&mut self, is_on: bool) {
        self.think = Some(is_on);
    }

    pub(super) fn think(&self) -> Option<bool> {
        self.think
    }

    /// Returns what the chat template is told.
    pub(super) fn template_kwargs(&self) -> Map<String, Value> {
        self.think.map(|is_on| ("enable_thinking".to_owned(), is_on.into())).into_iter().collect()
    }

    /// Tells a server how long to keep the model.
    pub(super) fn write_keep_alive(&self, body: &mut Value) {
        match self.keepalive {
            None => {}
            Some(KeepAlive::Forever) => body["keep_alive"] = (-1).into(),
            Some(time @ KeepAlive::For(_)) => body["keep_alive"] = time.to_string().into(),
        }
    }
}

/// Reads a number that is at least 1.
fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "must be a number of at least 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_set_by_ollamas_names() {
        let mut settings = Settings::default();
        for (name, value) in [("temperature", "0.7"), ("num_predict", "10"), ("stop", "END"), ("seed", "-1")]
        {
            settings.set(name, value).unwrap();
        }
        let shown = Value::Object(settings.parameters()).to_string();
        assert_eq!(shown, r#"{"temperature":0.7,"seed":-1,"num_predict":10,"stop":["END"]}"#);
        let options = settings.options();
        assert_eq!((options.max_tokens, options.sampling.seed), (Some(10), Some(u64::MAX)));
        assert!(settings.set("mirostat", "1").unwrap_err().contains("there are temperature"));
        assert!(settings.set("temperature", "-1").is_err() && settings.set("top_p", "NaN").is_err());
        assert!(settings.set("top_k", "many").unwrap_err().contains("\"many\""));
    }
}
