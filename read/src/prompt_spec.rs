//! What the model is asked: one of the release's prompts or one's own, in one of its conversation templates.

use mlxport_model::contract::Reading;
use mlxport_ocr::{IMAGE_TOKEN, Task, Template};

/// What the model is asked.
#[derive(Debug, Clone, Default)]
pub struct PromptSpec {
    /// The message.
    pub message: Message,
    /// The conversation that the message is put into.
    pub template: Template,
}

/// What the user says.
#[derive(Debug, Clone, Default)]
pub enum Message {
    /// What the model's release asks, where it has a prompt of its own; else [`Task::Markdown`].
    #[default]
    Usual,
    /// The text of one of the release's tasks, of all images at once: each has its line.
    Task(String),
    /// These words; `<image>` stands for a page.
    Own(String),
}

impl PromptSpec {
    /// The prompt for `images` pages, in its template. `reading`: how the model's release reads pages, where the model is known.
    #[must_use]
    pub fn for_images(&self, images: usize, reading: Option<&Reading>) -> String {
        let text = match &self.message {
            Message::Own(text) => text.clone(),
            Message::Task(text) => with_a_line_for_each(text, images),
            Message::Usual => {
                let own = reading.and_then(|reading| Some((reading.prompt, reading.prompt_of_several?)));
                match own {
                    Some((_, several)) if images > 1 => format!("{}{several}", IMAGE_TOKEN.repeat(images)),
                    Some((prompt, _)) => prompt.to_owned(),
                    None => with_a_line_for_each(&Task::Markdown.prompt(), images),
                }
            }
        };
        self.template.apply(&text)
    }
}

/// `text` has one image; the others come before it.
fn with_a_line_for_each(text: &str, images: usize) -> String {
    format!("{}{text}", format!("{IMAGE_TOKEN}\n").repeat(images.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_a_line_for_each_image_and_own_words_stay_as_they_are() {
        let usual = "<image>\n<|grounding|>Convert the document to markdown.";
        assert_eq!(PromptSpec::default().for_images(1, None), usual);
        let prompt = |message, template| PromptSpec { message, template }.for_images(2, None);
        assert_eq!(prompt(Message::Task(Task::FreeOcr.prompt()), Template::Plain), "<image>\n<image>\nFree OCR.");
        let locate = Message::Task(Task::Locate("the total").prompt());
        let located = PromptSpec { message: locate, ..PromptSpec::default() }.for_images(1, None);
        assert_eq!(located, "<image>\nLocate <|ref|>the total<|/ref|> in the image.");
        let own = Message::Own("<image> what?".to_owned());
        assert_eq!(prompt(own, Template::Deepseek), "<|User|>: <image> what?\n\n<|Assistant|>:");
    }
}
