"""The subcommands of `basicsr`, one file each: arguments in, a call, an exit status out."""
