//! One `Config` per subcommand; nothing unchecked gets past this file.
