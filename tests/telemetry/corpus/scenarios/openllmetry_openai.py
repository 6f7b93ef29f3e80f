"""OpenLLMetry's instrumentation of the OpenAI SDK."""

import sys

import asked
import openai
import openai_calls
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

asked.traced()
OpenAIInstrumentor().instrument()
openai_calls.call(sys.argv[1], openai.OpenAI(max_retries=0))
