//! What text is written on: how wide it is, and whether it shows colours.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};

/// A page narrower than this is not wrapped: it would be a word a line.
const NARROWEST: u16 = 40;

/// Where text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paper {
    /// A file, a pipe: lines as long as they are, no colour.
    Plain,
    /// Standard output.
    Stdout {
        /// Is it to show colours?
        colour: bool,
    },
}

impl Paper {
    /// Standard output, with colours if it is a terminal that shows them and nobody has said no (`NO_COLOR`), or as
    /// `--color` has it.
    #[must_use]
    pub fn stdout(colour: clap::ColorChoice) -> Self {
        let colour = match colour {
            clap::ColorChoice::Always => true,
            clap::ColorChoice::Never => false,
            clap::ColorChoice::Auto => {
                anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
            }
        };
        Self::Stdout { colour }
    }

    /// The page as it is now: terminals change their size.
    #[must_use]
    pub fn page(self) -> Page {
        match self {
            Self::Plain => Page::PLAIN,
            Self::Stdout { colour } => {
                let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
                let width = size
                    .map(|size| size.ws_col)
                    .filter(|width| *width >= NARROWEST);
                Page {
                    width: width.map(usize::from),
                    colour,
                }
            }
        }
    }
}

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Columns; `None`: lines are as long as they are.
    pub width: Option<usize>,
    /// Does it show colours?
    pub colour: bool,
}

impl Page {
    /// Nothing is known of it.
    pub const PLAIN: Self = Self {
        width: None,
        colour: false,
    };

    /// Text in a style, where the page shows any.
    #[must_use]
    pub fn paint(self, style: Style, text: &str) -> Cow<'_, str> {
        if self.colour && style != Style::new() && !text.is_empty() {
            format!("{style}{text}{style:#}").into()
        } else {
            text.into()
        }
    }
}

/// Something is wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something is at its end, and works as it should.
pub const LOAD: Style = AnsiColor::Yellow.on_default().bold();
/// Something to look at, or to type.
pub const STRONG: Style = Style::new().bold();
/// What only says what stands behind it.
pub const FAINT: Style = Style::new().dimmed();
