// A request → the command that makes it anywhere. A key never gets into it, only its variable.

import { currentKey } from "./key.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The command of a request; `files` are named as if they lay where it is run. */
export function curlOf(values, files, origin = location.origin) {
  const lines = [`curl -X POST ${quoted(`${origin}/release_task`)}`];
  if (currentKey()) lines.push('-H "Authorization: Bearer $LUTHIER_API_KEY"');
  if (Object.keys(files).length) {
    for (const [name, value] of Object.entries(values)) {
      lines.push(`--form-string ${quoted(`${name}=${value}`)}`);
    }
    for (const [part, file] of Object.entries(files)) {
      lines.push(`-F ${quoted(`${part}=@"${file.name.replace(/["\\]/g, "\\$&")}"`)}`);
    }
  } else {
    lines.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(values))}`);
  }
  return lines.join(" \\\n  ");
}

/** What the reader of the command has to know, or nothing. */
export function curlNote(files) {
  const said = [];
  if (currentKey()) said.push("Put your key into the variable LUTHIER_API_KEY first.");
  const names = Object.values(files).map((file) => file.name);
  if (names.length) said.push(`Run it beside ${names.join(" and ")}.`);
  return said.join(" ");
}
