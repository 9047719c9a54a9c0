#!/bin/sh
# Make seconds 8 to 16 of a recording anew: repaint.sh in.wav [server]
curl -sS -X POST "${2:-http://localhost:8001}/release_task" \
  -F "task_type=repaint" \
  -F "prompt=regenerate this region with tighter drums and less busy hats" \
  -F "repainting_start=8.0" \
  -F "repainting_end=16.0" \
  -F "src_audio=@$1"
