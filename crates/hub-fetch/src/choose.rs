//! Which files of a repository make the model: pure.

use hub_base::{Size, whole_of_shard};

use crate::{Error, Result, source::Pick};

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepoFile {
    /// Its path in the repository.
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// What was chosen, by index, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) files: Vec<usize>,
    /// The one whose folder or self is the model: a GGUF file; `None` for a folder.
    pub(crate) main: Option<usize>,
    pub(crate) reason: String,
}

/// Kinds of weights from the one that most people should take to those that cost more than they keep. A kind that is
/// not here comes last.
const PREFERRED: &[&str] = &[
    "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q4_0", "IQ4_XS", "Q5_K_S", "Q6_K", "Q8_0", "Q3_K_M", "Q3_K_L", "Q3_K_S",
    "IQ3_M", "IQ3_XXS", "Q2_K", "F16", "BF16", "F32",
];

/// Every kind that a file's name may say, longest first, so that `IQ4_XS` is not read as `Q4_0`.
const KINDS: &[&str] = &[
    "IQ3_XXS", "IQ2_XXS", "IQ1_S", "IQ1_M", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XS", "IQ3_S", "IQ3_M", "IQ4_XS",
    "IQ4_NL", "MXFP4", "Q2_K_S", "Q2_K_L", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q4_K_L",
    "Q5_K_S", "Q5_K_M", "Q5_K_L", "Q6_K_L", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q4_1", "Q5_0",
    "Q5_1", "Q8_0", "Q2_K_XL", "Q3_K_XL", "Q4_K_XL", "Q5_K_XL", "Q6_K_XL", "Q8_K_XL", "BF16", "F16", "F32",
    "FP16", "FP32",
];

/// A share of the weights that sequences, and the work on them, take besides.
const ROOM: u64 = 5;

/// Chooses among the files of `repo`.
///
/// # Errors
/// [`Error::NoSuchFile`] with what there is, [`Error::Pickle`] or [`Error::NoModel`].
pub(crate) fn choose(repo: &str, files: &[RepoFile], pick: &Pick, memory: Option<u64>) -> Result<Choice> {
    let ggufs = models(files);
    match pick {
        Pick::File(name) => named(repo, files, name),
        Pick::Kind(kind) => match ggufs.iter().find(|model| model.kind.eq_ignore_ascii_case(kind)) {
            Some(model) => Ok(model.choice(format!("{} was asked for", model.kind))),
            None => {
                let mut available: Vec<String> = ggufs.into_iter().map(|model| model.kind).collect();
                available.dedup();
                if available.is_empty() {
                    available.push("no GGUF file".to_owned());
                }
                Err(Error::NoSuchFile { repo: repo.to_owned(), asked: kind.clone(), available })
            }
        },
        Pick::Fitting if !ggufs.is_empty() => Ok(fitting(&ggufs, memory)),
        Pick::Fitting => folder(repo, files),
    }
}

/// A GGUF model of a repository: one file, or several that belong together.
struct GgufModel {
    kind: String,
    bytes: u64,
    files: Vec<usize>,
}

impl GgufModel {
    fn choice(&self, reason: String) -> Choice {
        Choice { files: self.files.clone(), main: self.files.first().copied(), reason }
    }
}

/// Gathers the GGUF models, in the order of their names. Projectors and importance matrices are none.
fn models(files: &[RepoFile]) -> Vec<GgufModel> {
    let mut models: Vec<(String, GgufModel)> = Vec::new();
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by(|a, b| files[*a].name.cmp(&files[*b].name));
    for index in order {
        let RepoFile { name, bytes } = &files[index];
        let Some(stem) = strip_ignoring_case(name, ".gguf") else { continue };
        let base = stem.rsplit('/').next().unwrap_or(stem).to_ascii_lowercase();
        if base.starts_with("mmproj") || base.contains("imatrix") {
            continue;
        }
        let whole = whole_of_shard(stem).unwrap_or(stem);
        match models.iter_mut().find(|(known, _)| known == whole) {
            Some((_, model)) => {
                model.files.push(index);
                model.bytes += bytes;
            }
            None => {
                let kind = kind_of(whole).unwrap_or_else(|| base.clone());
                models.push((whole.to_owned(), GgufModel { kind, bytes: *bytes, files: vec![index] }));
            }
        }
    }
    models.into_iter().map(|(_, model)| model).collect()
}

/// Chooses the preferred kind among those that fit, else the smallest.
fn fitting(models: &[GgufModel], memory: Option<u64>) -> Choice {
    let rank = |model: &GgufModel| {
        PREFERRED.iter().position(|kind| model.kind.eq_ignore_ascii_case(kind)).unwrap_or(PREFERRED.len())
    };
    let fits = |model: &GgufModel| memory.is_none_or(|memory| model.bytes + model.bytes / ROOM <= memory);
    let best = models.iter().filter(|model| fits(model)).min_by_key(|model| (rank(model), model.bytes));
    let of_memory = || memory.map_or_else(String::new, |memory| format!(" of {}", Size(memory)));
    match best {
        Some(model) => model.choice(format!(
            "{} is the usual balance of size and quality among the kinds that fit this machine ({}{})",
            model.kind,
            Size(model.bytes),
            of_memory()
        )),
        None => {
            let smallest = models.iter().min_by_key(|model| model.bytes);
            smallest.map_or_else(
                || Choice { files: Vec::new(), main: None, reason: String::new() },
                |model| {
                    let size = Size(model.bytes);
                    model.choice(format!(
                        "{} is the smallest ({size}); none fits this machine{}",
                        model.kind,
                        of_memory()
                    ))
                },
            )
        }
    }
}

/// Chooses the file of that name, with the others of its shards.
fn named(repo: &str, files: &[RepoFile], name: &str) -> Result<Choice> {
    let Some(index) = files.iter().position(|file| file.name == name) else {
        let mut available: Vec<String> =
            files.iter().map(|file| file.name.clone()).filter(|name| name.ends_with(".gguf")).collect();
        available.truncate(20);
        if available.is_empty() {
            available.push("no GGUF file".to_owned());
        }
        return Err(Error::NoSuchFile { repo: repo.to_owned(), asked: name.to_owned(), available });
    };
    let stem_of = |name: &str| strip_ignoring_case(name, ".gguf").map(str::to_owned);
    let Some(stem) = stem_of(name) else {
        return match () {
            () if is_pickle(name) => Err(Error::Pickle { repo: repo.to_owned(), file: name.to_owned() }),
            // A single safetensors file is nothing without what lies beside it.
            () => folder(repo, files),
        };
    };
    let group: Vec<usize> = match whole_of_shard(&stem) {
        Some(whole) => {
            let mut group: Vec<usize> = (0..files.len())
                .filter(|index| {
                    stem_of(&files[*index].name).is_some_and(|stem| whole_of_shard(&stem) == Some(whole))
                })
                .collect();
            group.sort_by(|a, b| files[*a].name.cmp(&files[*b].name));
            group
        }
        None => vec![index],
    };
    let main = group.first().copied();
    Ok(Choice { files: group, main, reason: format!("{name} was asked for") })
}

/// Chooses what a folder of safetensors needs: the weights at its root, and every small file of text beside them.
fn folder(repo: &str, files: &[RepoFile]) -> Result<Choice> {
    /// No configuration or tokenizer is longer.
    const MAX_TEXT_BYTES: u64 = 64 << 20;
    let is_weights = |file: &RepoFile| file.name.ends_with(".safetensors") && !file.name.contains('/');
    if !files.iter().any(is_weights) {
        return Err(match files.iter().find(|file| is_pickle(&file.name)) {
            Some(file) => Error::Pickle { repo: repo.to_owned(), file: file.name.clone() },
            None => Error::NoModel { repo: repo.to_owned() },
        });
    }
    // Many repositories hold their weights twice: once whole or sharded, once as their authors trained them.
    let has_plain = files.iter().any(|file| file.name.starts_with("model") && is_weights(file));
    let is_wanted = |file: &RepoFile| {
        let is_text = [".json", ".txt", ".model", ".jinja"].iter().any(|end| file.name.ends_with(end))
            || ["README.md", "LICENSE"].contains(&file.name.as_str());
        let is_beside = !file.name.contains('/') || file.name.ends_with("_Pooling/config.json");
        let is_own = !has_plain || file.name.starts_with("model");
        (is_weights(file) && is_own) || (is_text && is_beside && file.bytes <= MAX_TEXT_BYTES)
    };
    let chosen: Vec<usize> = (0..files.len()).filter(|index| is_wanted(&files[*index])).collect();
    let reason = "its safetensors files, with configuration and tokenizer".to_owned();
    Ok(Choice { files: chosen, main: None, reason })
}

fn is_pickle(name: &str) -> bool {
    [".bin", ".pt", ".pth", ".pkl", ".ckpt"].iter().any(|end| name.ends_with(end))
}

/// Reads the kind of weights out of a file's name: `Qwen3-8B-Q4_K_M`, `model.q8_0`.
fn kind_of(stem: &str) -> Option<String> {
    let name = stem.rsplit('/').next().unwrap_or(stem).to_ascii_uppercase();
    let words = name.split(['-', '.', ' ']);
    // The last word that is a kind: a model may be called after one.
    words
        .rev()
        .find_map(|word| KINDS.iter().find(|kind| word == **kind || word.ends_with(&format!("_{kind}"))))
        .map(|kind| (*kind).to_owned())
}

fn strip_ignoring_case<'a>(text: &'a str, end: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(end.len())?;
    text.get(at..).is_some_and(|tail| tail.eq_ignore_ascii_case(end)).then(|| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn files(list: &[(&str, u64)]) -> Vec<RepoFile> {
        list.iter().map(|(name, bytes)| RepoFile { name: (*name).to_owned(), bytes: *bytes }).collect()
    }

    #[track_caller]
    fn check(list: &[(&str, u64)], pick: Pick, memory: u64, expected: &[&str]) {
        let files = files(list);
        let choice = choose("a/b", &files, &pick, Some(memory)).unwrap();
        let names: Vec<&str> = choice.files.iter().map(|index| files[*index].name.as_str()).collect();
        assert_eq!(names, expected, "{}", choice.reason);
    }

    const QUANTS: &[(&str, u64)] = &[
        ("README.md", 100),
        ("M-8B-Q2_K.gguf", 3 * GIB),
        ("M-8B-Q4_K_M.gguf", 5 * GIB),
        ("M-8B-Q8_0.gguf", 9 * GIB),
        ("M-8B-IQ4_XS.gguf", 4 * GIB),
        ("mmproj-M-8B-f16.gguf", GIB),
    ];

    #[test]
    fn the_usual_kind_is_taken_if_it_fits() {
        check(QUANTS, Pick::Fitting, 16 * GIB, &["M-8B-Q4_K_M.gguf"]);
        check(QUANTS, Pick::Fitting, 5 * GIB, &["M-8B-IQ4_XS.gguf"]);
        check(QUANTS, Pick::Fitting, 4 * GIB, &["M-8B-Q2_K.gguf"]);
        check(QUANTS, Pick::Fitting, GIB, &["M-8B-Q2_K.gguf"]);
    }

    #[test]
    fn kinds_and_files_are_found_by_name() {
        check(QUANTS, Pick::Kind("q8_0".to_owned()), GIB, &["M-8B-Q8_0.gguf"]);
        check(QUANTS, Pick::File("M-8B-Q2_K.gguf".to_owned()), GIB, &["M-8B-Q2_K.gguf"]);
        let refused = choose("a/b", &files(QUANTS), &Pick::Kind("Q5_K_M".to_owned()), None).unwrap_err();
        assert!(refused.to_string().contains("it has IQ4_XS, Q2_K, "), "{refused}");
    }

    #[test]
    fn shards_stay_together() {
        let list = &[
            ("big/m-Q6_K-00002-of-00002.gguf", GIB),
            ("big/m-Q6_K-00001-of-00002.gguf", GIB),
            ("m-f16.gguf", 9 * GIB),
        ];
        let both = &["big/m-Q6_K-00001-of-00002.gguf", "big/m-Q6_K-00002-of-00002.gguf"];
        check(list, Pick::Kind("Q6_K".to_owned()), GIB, both);
        check(list, Pick::File("big/m-Q6_K-00002-of-00002.gguf".to_owned()), GIB, both);
    }

    #[test]
    fn a_folder_is_weights_and_what_reads_them() {
        let list = &[
            ("config.json", 1),
            ("tokenizer.json", 2),
            ("model-00001-of-00002.safetensors", GIB),
            ("model-00002-of-00002.safetensors", GIB),
            ("model.safetensors.index.json", 3),
            ("consolidated.safetensors", 2 * GIB),
            ("pytorch_model.bin", 2 * GIB),
            ("onnx/model.onnx", GIB),
            ("onnx/config.json", 1),
            ("1_Pooling/config.json", 1),
            ("README.md", 1),
            ("docs/README.md", 1),
        ];
        let expected = [
            "config.json",
            "tokenizer.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "1_Pooling/config.json",
            "README.md",
        ];
        check(list, Pick::Fitting, GIB, &expected);
    }

    #[test]
    fn a_folder_of_mistral_s_own_programs_is_whole() {
        let names = ["params.json", "tekken.json", "consolidated.safetensors", "README.md"];
        let list = [(names[0], 1), (names[1], 19 << 20), (names[2], GIB), (names[3], 1)];
        check(&list, Pick::Fitting, GIB, &names);
    }

    #[test]
    fn pickle_is_refused_with_the_reason() {
        let pickle = files(&[("config.json", 1), ("pytorch_model.bin", GIB)]);
        let refused = choose("a/b", &pickle, &Pick::Fitting, None).unwrap_err();
        assert!(refused.to_string().contains("pytorch_model.bin"), "{refused}");
        assert!(matches!(choose("a/b", &files(&[]), &Pick::Fitting, None), Err(Error::NoModel { .. })));
    }

    #[test]
    fn kinds_are_read_out_of_names() {
        for (name, kind) in [
            ("Qwen3-8B-Q4_K_M", Some("Q4_K_M")),
            ("llama.q8_0", Some("Q8_0")),
            ("M-UD-Q4_K_XL", Some("Q4_K_XL")),
            ("model_bf16", Some("BF16")),
            ("gpt-oss-20b-MXFP4", Some("MXFP4")),
            ("a/IQ4_XS/m", None),
        ] {
            assert_eq!(kind_of(name).as_deref(), kind, "{name}");
        }
    }
}
