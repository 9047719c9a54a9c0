#!/bin/sh
# Play a recording in the style of another: cover.sh in.wav style.wav [server]
curl -sS -X POST "${3:-http://localhost:8001}/release_task" \
  -F "task_type=cover" \
  -F "prompt=keep structure but make it more lo-fi and warm" \
  -F "audio_cover_strength=0.3" \
  -F "src_audio=@$1" \
  -F "reference_audio=@$2"
