//! What the model is asked, on the command line: one of the release's prompts or one's own, in one of its conversation templates.

use mlxport_model::contract::Reading;
use mlxport_ocr::{IMAGE_TOKEN, Task, Template};

/// What the model is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct Asked {
    /// What to do with each page, as the release asks for it [default: markdown]
    #[arg(long, value_enum, conflicts_with = "prompt")]
    task: Option<TaskName>,
    /// What to look for (--task locate)
    #[arg(long, value_name = "TEXT", required_if_eq("task", "locate"))]
    query: Option<String>,
    /// The same in your own words; <image> stands for the page
    #[arg(long)]
    prompt: Option<String>,
    /// The conversation the prompt is put into
    #[arg(long, value_enum, default_value = "plain")]
    template: TemplateName,
}

/// The release's prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TaskName {
    /// A page as Markdown, with where everything stands
    Markdown,
    /// Any image's text, with where it stands
    Ocr,
    /// The text alone
    FreeOcr,
    /// A figure of a document
    Figure,
    /// A description of any image
    Describe,
    /// Where QUERY stands
    Locate,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum TemplateName {
    /// The prompt alone, as the release has it
    Plain,
    /// <|User|>: …, <|Assistant|>:
    Deepseek,
    /// The same with DeepSeek-V2's own tokens
    Deepseekv2,
    /// <image> alone
    Alignment,
}

impl Asked {
    /// The prompt for `images` pages, in its template.
    pub fn prompt(&self, images: usize) -> String {
        self.template.template().apply(&self.text(images))
    }

    /// The same, where nothing is asked: what the model's release asks, if it has a prompt of its own.
    pub fn prompt_or(&self, images: usize, reading: Option<&Reading>) -> String {
        let nothing_asked = self.prompt.is_none() && self.task.is_none();
        let usual = reading.filter(|reading| nothing_asked && reading.prompt_of_several.is_some());
        let Some(Reading { prompt, prompt_of_several, .. }) = usual else { return self.prompt(images) };
        let text = match prompt_of_several {
            Some(several) if images > 1 => format!("{}{several}", IMAGE_TOKEN.repeat(images)),
            _ => (*prompt).to_owned(),
        };
        self.template.template().apply(&text)
    }

    fn text(&self, images: usize) -> String {
        if let Some(prompt) = &self.prompt {
            return prompt.clone();
        }
        let task = match self.task.unwrap_or(TaskName::Markdown) {
            TaskName::Markdown => Task::Markdown,
            TaskName::Ocr => Task::Ocr,
            TaskName::FreeOcr => Task::FreeOcr,
            TaskName::Figure => Task::Figure,
            TaskName::Describe => Task::Describe,
            TaskName::Locate => Task::Locate(self.query.as_deref().unwrap_or_default()),
        };
        // A named task is asked of all images at once: each has its line.
        format!("{}{}", format!("{IMAGE_TOKEN}\n").repeat(images.saturating_sub(1)), task.prompt())
    }
}

impl TemplateName {
    fn template(self) -> Template {
        match self {
            Self::Plain => Template::Plain,
            Self::Deepseek => Template::Deepseek,
            Self::Deepseekv2 => Template::DeepseekV2,
            Self::Alignment => Template::Alignment,
        }
    }
}
