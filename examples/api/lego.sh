#!/bin/sh
# Add a bass to a recording: lego.sh in.wav [server]. ACE-Step needs a base model for it.
curl -sS -X POST "${2:-http://localhost:8001}/release_task" \
  -F "task_type=lego" \
  -F "instruction=Generate the bass track based on the audio context:" \
  -F "prompt=warm round bass, minimal fills" \
  -F "src_audio=@$1"
