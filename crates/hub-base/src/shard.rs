/// Returns what all files of a model in parts are called, without its ending: `x` for `x-00001-of-00003`, as Hugging Face
/// and llama.cpp number them; `None` for a name without such numbers.
///
/// ```
/// assert_eq!(hub_base::whole_of_shard("qwen-00001-of-00003"), Some("qwen"));
/// assert_eq!(hub_base::whole_of_shard("qwen-1-of-3"), None);
/// ```
pub fn whole_of_shard(stem: &str) -> Option<&str> {
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (whole, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(count) && is_number(number)).then_some(whole)
}
