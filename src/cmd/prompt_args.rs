//! What the model is asked, on the command line: one of the release's prompts or one's own, in one of its conversation templates.

use mlxport_ocr::{Task, Template};
use mlxport_read::{Message, PromptSpec};

/// What the model is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct PromptArgs {
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

impl PromptArgs {
    /// What the model is asked.
    pub fn spec(&self) -> PromptSpec {
        let task = |name| match name {
            TaskName::Markdown => Task::Markdown,
            TaskName::Ocr => Task::Ocr,
            TaskName::FreeOcr => Task::FreeOcr,
            TaskName::Figure => Task::Figure,
            TaskName::Describe => Task::Describe,
            TaskName::Locate => Task::Locate(self.query.as_deref().unwrap_or_default()),
        };
        let message = match (&self.prompt, self.task) {
            (Some(prompt), _) => Message::Own(prompt.clone()),
            (None, Some(name)) => Message::Task(task(name).prompt()),
            (None, None) => Message::Usual,
        };
        let template = match self.template {
            TemplateName::Plain => Template::Plain,
            TemplateName::Deepseek => Template::Deepseek,
            TemplateName::Deepseekv2 => Template::DeepseekV2,
            TemplateName::Alignment => Template::Alignment,
        };
        PromptSpec { message, template }
    }
}
