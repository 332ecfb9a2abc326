"""Requests and answers of the checks: what Claude's clients and servers say, and new things."""

import json


def ask(model: str, **fields: object) -> bytes:
    """Return a small request."""
    turn = {"role": "user", "content": "Say hello."}
    return json.dumps({"model": model, "max_tokens": 64, "messages": [turn], **fields}).encode()


def ask_oddly(model: str) -> bytes:
    """Return a request that holds what any reader could lose: spaces, escapes, order, novelties."""
    return (
        b'{ "x_new": {"b":1, "a":[1.50,1e2,12345678901234567890]},\n "model":"%b","max_tokens":64 ,'
        b'"system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=9.9.9;"},'
        b'{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral","ttl":"1h"}}],'
        b'"messages":[{"role":"user","content":[{"type":"text","text":"caf\\u00e9 caf\xc3\xa9 \\/ '
        b'\\ud83d\\ude00","cache_control":{"type":"ephemeral"}},{"type":"x_new","text":""}]},'
        b'{"content":[{"type":"thinking","thinking":"Hm.","signature":"c2lnbmVk"},'
        b'{"type":"tool_use","id":"toolu_1","name":"f","input":{"z":1,"a":{}}}],'
        b'"role":"assistant"},{"role":"user","content":[{"type":"tool_result",'
        b'"tool_use_id":"toolu_1","content":"done"}]},{"role":"system","content":"Be kind."}],'
        b'"tools":[{"name":"f","input_schema":{"type":"object"},"x_new":null}],'
        b'"metadata":{"user_id":"{\\"device_id\\":\\"0\\",\\"account_uuid\\":\\"\\"}"},'
        b'"thinking":{"type":"adaptive"},"output_config":{"effort":"high"},'
        b'"context_management":{"edits":[{"type":"clear_thinking_20251015"}]}}\n'
    ) % model.encode()


def model_page(*models: str) -> bytes:
    """Return a list of models, whole."""
    page = {
        "data": [{"type": "model", "id": name, "display_name": name} for name in models],
        "has_more": False,
        "first_id": models[0],
        "last_id": models[-1],
    }
    return json.dumps(page).encode()


def event(name: str, data: str) -> bytes:
    """Return one event of a stream."""
    return f"event: {name}\ndata: {data}\n\n".encode()


PING = event("ping", '{"type": "ping"}')
COMMENT = b": still here\n\n"
START = event(
    "message_start",
    '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
    '"model":"claude","content":[],"stop_reason":null,"usage":{"input_tokens":3,"output_tokens":1}}}',
)
STOP = event(
    "message_delta",
    '{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}',
) + event("message_stop", '{"type":"message_stop"}')


def block(number: int, start: str, *deltas: str) -> list[bytes]:
    """Return the events of one content block."""
    begin = f'{{"type":"content_block_start","index":{number},"content_block":{start}}}'
    end = f'{{"type":"content_block_stop","index":{number}}}'
    return [
        event("content_block_start", begin),
        *(
            event(
                "content_block_delta",
                f'{{"type":"content_block_delta","index":{number},"delta":{delta}}}',
            )
            for delta in deltas
        ),
        event("content_block_stop", end),
    ]


def text_delta(text: str) -> bytes:
    """Return a delta of the first block's text."""
    delta = f'{{"type":"text_delta","text":{json.dumps(text)}}}'
    return block(0, "{}", delta)[1]


OPENED = [START, block(0, '{"type":"text","text":""}')[0]]
CLOSED = [block(0, "{}")[1], STOP]

STREAM = [
    START,
    PING,
    *block(
        0,
        '{"type":"thinking","thinking":"","signature":""}',
        '{"type":"thinking_delta","thinking":"Let me see. "}',
        '{"type":"signature_delta","signature":"c2lnbmVk"}',
    ),
    COMMENT,
    *block(
        1,
        '{"type":"text","text":""}',
        '{"type":"text_delta","text":"Hello, "}',
        '{"type": "text_delta", "text": "caf\\u00e9 caf\u00e9 \u2028 \\ud83d\\ude00. "}',
    ),
    PING,
    *block(
        2,
        '{"type":"tool_use","id":"toolu_1","name":"f","input":{}}',
        '{"type":"input_json_delta","partial_json":""}',
        '{"type":"input_json_delta","partial_json":"{\\"a\\": "}',
        '{"type":"input_json_delta","partial_json":"[1, 2]}"}',
    ),
    event("x_new_event", '{"type":"x_new_event","x":[1.50]}'),
    STOP,
]
"""A stream with everything that clients read or wait for, and one event that is new."""
