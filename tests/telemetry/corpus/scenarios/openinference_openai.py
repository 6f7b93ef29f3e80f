"""OpenInference's instrumentation of the OpenAI SDK, with a session and a user."""

import sys

import asked
import openai
import openai_calls
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai import OpenAIInstrumentor

asked.traced()
OpenAIInstrumentor().instrument()
with using_attributes(session_id=asked.SESSION, user_id=asked.USER):
    openai_calls.call(sys.argv[1], openai.OpenAI(max_retries=0))
