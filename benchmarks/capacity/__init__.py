"""How many live publishers this machine holds with the 99th percentile of packet lateness under 40 ms, and what happens beyond.

A packet falls due when its last sample is captured. It is late by the time from there until its codes are out: in process, until the worker
has handed them to the stream's sink; through WebSockets, until a listener in the load's process, on the same cores, has parsed the message.
One run grows the load until packets are late or dropped, holds a count, puts half as much again on top, and goes back to three quarters.

The cases in the results are these, each with `--precision bf16 --threads 2 --workers 2 --grow-seconds 4`:

    --way inprocess --model full --from 50 --step 20 --hold 70
    --way inprocess --from 200 --step 40 --hold 200
    --way websocket --model full --from 35 --step 15 --hold 50
    --way websocket --from 80 --step 20 --hold 100
    --way websocket --from 40 --step 20 --hold 50 --pcm-listeners 50 --minutes 2 --case "..."
"""
