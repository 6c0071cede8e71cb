// SPDX-License-Identifier: Apache-2.0
/**
 * Completion for shells: the script walks over the words before the cursor to the command that they name, then offers
 * its commands, its options, or the values of an option that has a list. Everything else is a file's name.
 */
import { type CommandOutline, everyCommand, type OptionOutline } from "../outline.ts";

export const shells = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof shells)[number];

/** The script for one shell. `root` is `caisson` itself, with the path "". */
export function completionScript(shell: Shell, root: CommandOutline): string {
  return writers[shell](everyCommand(root));
}

const writers: Record<Shell, (commands: CommandOutline[]) => string> = { bash, zsh, fish };

/** A word of bash and zsh, whatever is in it. */
const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;
const fishQuoted = (word: string) => `'${word.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;

const lastWord = (path: string) => path.split(" ").at(-1)!;
const names = (options: readonly OptionOutline[]) => options.flatMap((option) => option.names);
/** What may stand at the place of a command or an argument, where there is a list. */
const words = ({ commands, arguments: [first] }: CommandOutline): [word: string, description: string][] =>
  commands.length > 0
    ? commands.map(({ path, summary }) => [lastWord(path), summary])
    : (first?.choices ?? []).map((choice) => [choice, first!.description]);

/** Patterns of a `case` in bash and zsh. */
const patterns = (texts: readonly string[]) => texts.map(quoted).join("|");
/** Options with a value, as "path --option". */
const valued = (commands: CommandOutline[], wanted: (option: OptionOutline) => boolean) =>
  commands.flatMap(({ path, options }) =>
    options
      .filter((option) => option.takesValue && wanted(option))
      .flatMap((option) => option.names.map((name) => ({ at: `${path} ${name}`.trim(), option }))),
  );
const inner = (commands: CommandOutline[]) => commands.map(({ path }) => path).filter((path) => path !== "");

function bash(commands: CommandOutline[]): string {
  const listed = valued(commands, ({ choices }) => choices.length > 0);
  const free = valued(commands, ({ choices }) => choices.length === 0);
  return `# bash completion of caisson, written by \`caisson completion bash\`
_caisson() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} place= step i
  # An = is a word of its own here.
  [[ $before != = ]] || before=\${COMP_WORDS[COMP_CWORD-2]}
  [[ $current != = ]] || { before=\${COMP_WORDS[COMP_CWORD-1]} current=; }
  for ((i = 1; i < COMP_CWORD; i++)); do
    step="$place \${COMP_WORDS[i]}"
    case "\${step# }" in ${patterns(inner(commands))}) place=\${step# } ;; esac
  done
  local words= options=
  COMPREPLY=()
  step="$place $before"
  case "\${step# }" in
${listed.map(({ at, option }) => `    ${quoted(at)}) COMPREPLY=($(compgen -W ${quoted(option.choices.join(" "))} -- "$current")); return ;;`).join("\n")}
    ${patterns(free.map(({ at }) => at))}) return ;;
  esac
  case "$place" in
${commands
  .map(
    (command) => `    ${quoted(command.path)})
      words=${quoted(
        words(command)
          .map(([word]) => word)
          .join(" "),
      )}
      options=${quoted(names(command.options).join(" "))} ;;`,
  )
  .join("\n")}
  esac
  [[ $current != -* ]] || words=$options
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
# Where nothing is offered, names of files are.
complete -o default -F _caisson caisson
`;
}

function zsh(commands: CommandOutline[]): string {
  /** For \`_describe\`: a colon ends the word. */
  const described = (pairs: readonly (readonly [string, string])[]) =>
    pairs.map(([word, text]) => quoted(`${word.replaceAll(":", "\\:")}:${text}`)).join(" ");
  const listed = valued(commands, ({ choices }) => choices.length > 0);
  const free = valued(commands, ({ choices }) => choices.length === 0);
  return `#compdef caisson
# zsh completion of caisson, written by \`caisson completion zsh\`
_caisson() {
  local place= step i
  local -a words_ options_
  for ((i = 2; i < CURRENT; i++)); do
    step="$place $words[i]"
    case "\${step# }" in (${patterns(inner(commands))}) place=\${step# } ;; esac
  done
  step="$place $words[CURRENT-1]"
  case "\${step# }" in
${listed.map(({ at, option }) => `    (${quoted(at)}) words_=(${option.choices.map(quoted).join(" ")}); compadd -a words_; return ;;`).join("\n")}
    (${patterns(free.map(({ at }) => at))}) _files; return ;;
  esac
  case "$place" in
${commands
  .map(
    (command) => `    (${quoted(command.path)})
      words_=(${described(words(command))})
      options_=(${described(command.options.flatMap((option) => option.names.map((name) => [name, option.description] as const)))}) ;;`,
  )
  .join("\n")}
  esac
  if [[ $words[CURRENT] == -* ]]; then
    _describe -o option options_
  elif (( $#words_ )); then
    _describe command words_
  else
    _files
  fi
}
# Both ways: as a file of $fpath, and read by \`source\`.
if [[ $funcstack[1] == _caisson ]]; then _caisson "$@"; else compdef _caisson caisson; fi
`;
}

function fish(commands: CommandOutline[]): string {
  const at = ({ path }: CommandOutline) => `-n ${fishQuoted(`__caisson_at ${fishQuoted(path)}`)}`;
  const option = (command: CommandOutline, { names, takesValue, choices, description }: OptionOutline) => {
    const spelt = names.map((name) =>
      name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`,
    );
    const value = !takesValue
      ? []
      : choices.length > 0
        ? ["-x", "-a", fishQuoted(choices.join(" "))]
        : ["-r"];
    return ["complete -c caisson", at(command), ...spelt, ...value, "-d", fishQuoted(description)].join(" ");
  };
  return `# fish completion of caisson, written by \`caisson completion fish\`
function __caisson_at
    set -l place ''
    for word in (commandline -opc)[2..-1]
        set -l step (string trim -- "$place $word")
        if contains -- $step ${inner(commands).map(fishQuoted).join(" ")}
            set place $step
        end
    end
    test "$place" = "$argv[1]"
end
${commands
  .flatMap((command) => [
    ...words(command).map(
      ([word, description]) =>
        `complete -c caisson ${at(command)} -f -a ${fishQuoted(word)} -d ${fishQuoted(description)}`,
    ),
    ...command.options.map((one) => option(command, one)),
  ])
  .join("\n")}
`;
}
