//! What the model is asked: the release's prompts by name, and the conversation templates of its `conversation.py`.
//!
//! `infer` puts one user's message and an empty answer through `format_messages`: white space around the message is dropped, the
//! template is applied, and white space around the whole is dropped.

/// What stands for an image in a prompt.
pub const IMAGE_TOKEN: &str = "<image>";

/// The release's prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task<'a> {
    /// A page as Markdown, with where everything stands on it.
    Markdown,
    /// The text of any image, with where it stands.
    Ocr,
    /// The text alone, no layout.
    FreeOcr,
    /// A figure of a document.
    Figure,
    /// A description of any image.
    Describe,
    /// Where the named thing stands.
    Locate(&'a str),
}

impl Task<'_> {
    /// The prompt's text, with one `<image>`.
    #[must_use]
    pub fn prompt(self) -> String {
        let asked = match self {
            Self::Markdown => "<|grounding|>Convert the document to markdown.",
            Self::Ocr => "<|grounding|>OCR this image.",
            Self::FreeOcr => "Free OCR.",
            Self::Figure => "Parse the figure.",
            Self::Describe => "Describe this image in detail.",
            Self::Locate(what) => return format!("{IMAGE_TOKEN}\nLocate <|ref|>{what}<|/ref|> in the image."),
        };
        format!("{IMAGE_TOKEN}\n{asked}")
    }
}

/// The conversation templates that `conversation.py` registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Template {
    /// The message and nothing else: what the release uses.
    #[default]
    Plain,
    /// `<|User|>: message`, an empty line, `<|Assistant|>:`.
    Deepseek,
    /// `<｜User｜>: message<｜Assistant｜>:`, the full-width bars of DeepSeek-V2's own tokens.
    DeepseekV2,
    /// `<image>` alone: the message itself is left out, as for training the projector.
    Alignment,
}

impl Template {
    /// The whole prompt of one user's message and an answer to be made.
    #[must_use]
    pub fn apply(self, message: &str) -> String {
        let message = message.trim();
        // An empty message is not said: the role stands alone, as for the answer.
        let said = |role: &str, end: &str| match message {
            "" => format!("{role}:"),
            _ => format!("{role}: {message}{end}"),
        };
        let whole = match self {
            Self::Plain => message.to_owned(),
            Self::Deepseek => format!("{}<|Assistant|>:", said("<|User|>", "\n\n")),
            Self::DeepseekV2 => format!("{}<｜Assistant｜>:", said("<｜User｜>", "")),
            Self::Alignment if message.is_empty() => String::new(),
            Self::Alignment => format!("{IMAGE_TOKEN}\n"),
        };
        whole.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_those_of_conversation_py() {
        // `format_messages` of the release with each template's own roles, message "<image>\nFree OCR. ".
        let message = "<image>\nFree OCR. ";
        assert_eq!(Template::Plain.apply(message), "<image>\nFree OCR.");
        assert_eq!(Template::Deepseek.apply(message), "<|User|>: <image>\nFree OCR.\n\n<|Assistant|>:");
        assert_eq!(Template::DeepseekV2.apply(message), "<｜User｜>: <image>\nFree OCR.<｜Assistant｜>:");
        assert_eq!(Template::Alignment.apply(message), "<image>");
        assert_eq!(Template::Deepseek.apply(" "), "<|User|>:<|Assistant|>:");
        assert_eq!(Template::Alignment.apply(" "), "");
    }

    #[test]
    fn prompts_are_the_releases() {
        assert_eq!(Task::Markdown.prompt(), "<image>\n<|grounding|>Convert the document to markdown.");
        assert_eq!(Task::Ocr.prompt(), "<image>\n<|grounding|>OCR this image.");
        assert_eq!(Task::FreeOcr.prompt(), "<image>\nFree OCR.");
        assert_eq!(Task::Figure.prompt(), "<image>\nParse the figure.");
        assert_eq!(Task::Describe.prompt(), "<image>\nDescribe this image in detail.");
        assert_eq!(Task::Locate("the total").prompt(), "<image>\nLocate <|ref|>the total<|/ref|> in the image.");
    }
}
