"""Reads this folder: an encoder with what was trained in it, and the classifier of head.safetensors on top of it.

    python head.py "A text" "Another text"

    model = Classifier("FOLDER")
    logits = model(**model.inputs(["A text", "Another text"]))
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoModel, AutoTokenizer


class Classifier(torch.nn.Module):
    """Token ids and attention mask in, logits out. `base` is the backbone, where the folder's name for it is not yours."""

    def __init__(self, folder=Path(__file__).parent, base=None):
        super().__init__()
        folder = Path(folder)
        with safe_open(folder / "head.safetensors", "pt") as file:
            self.how = file.metadata()
            self.weights = {name: file.get_tensor(name) for name in file.keys()}
        self.labels = json.loads(self.how["labels"])
        adapter = folder / "adapter_config.json"
        config = json.loads(adapter.read_text()) if adapter.exists() else {}
        self.base = str(base or config.get("base_model_name_or_path") or config.get("model_name") or folder)
        # AdapterHub's prefixes are wrong with DistilBERT's scaled_dot_product_attention: their mask is added to the scores.
        how = {"attn_implementation": "eager"} if "config" in config else {}
        self.encoder = AutoModel.from_pretrained(self.base, **how)
        self.padding = self.encoder.config.pad_token_id
        # Rows that PEFT puts before the text's (a prefix has none).
        self.virtual = 0 if config.get("peft_type") == "PREFIX_TUNING" else config.get("num_virtual_tokens", 0)
        if "peft_type" in config:
            from peft import PeftModel

            self.encoder = PeftModel.from_pretrained(self.encoder, folder)
        elif config:
            import adapters

            adapters.init(self.encoder)
            self.encoder.load_adapter(str(folder), with_head=False, set_active=True, use_safetensors=True)
        self.eval()

    def inputs(self, texts, pairs=None):
        """Texts as they were in training: white space around them removed and made lower-case if they were, and cut where they
        were cut."""
        tokenizer = AutoTokenizer.from_pretrained(self.base)
        tokenizer.padding_side = "right"  # the first row is the text's, whatever its configuration says
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token  # it is masked
        longest = int(self.how["max_tokens"]) if "max_tokens" in self.how else None  # None: where the tokenizer does it

        def prepared(texts):
            texts = [text.strip() if self.how.get("strip") == "true" else text for text in texts]
            return [text.lower() if self.how.get("lower_case") == "true" else text for text in texts]

        texts = [prepared(texts)] + ([prepared(pairs)] if pairs else [])
        return tokenizer(*texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")

    def linear(self, name, x):
        return torch.nn.functional.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        inputs, mask = {"input_ids": input_ids}, attention_mask
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        encoder = self.encoder
        if self.virtual:  # by hand, as PEFT drops token types where the head is not its own
            front = torch.zeros(len(mask), self.virtual, dtype=mask.dtype)
            mask = torch.cat([front + 1, mask], 1)
            words = encoder.get_input_embeddings()(inputs.pop("input_ids"))
            inputs["inputs_embeds"] = torch.cat([encoder.get_prompt(batch_size=len(mask)), words], 1)
            if token_type_ids is not None:
                inputs["token_type_ids"] = torch.cat([front, token_type_ids], 1)
            encoder = encoder.base_model
        rows = encoder(attention_mask=mask, **inputs).last_hidden_state
        start = int(self.how["rows_from"])
        rows, mask = rows[:, start:], mask[:, start:]
        pooling, head = self.how["pooling"], self.how["head"]
        if pooling == "mean":
            x = (rows * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        elif pooling == "last":  # that is not padding, as transformers reads a decoder
            if not self.virtual and self.padding is not None:
                mask = mask * (input_ids != self.padding)
            x = rows[torch.arange(len(rows)), (mask * torch.arange(mask.shape[1])).argmax(1)]
        else:
            x = rows[:, 0]
        if pooling == "pooler":
            x = self.linear("pooler", x).tanh()
        if head != "linear" and head != "score":
            act = {"dense_tanh": torch.tanh, "dense_relu": torch.relu, "dense_norm": torch.nn.functional.gelu}[head]
            x = act(self.linear("dense", x))
        if head == "dense_norm":
            x = torch.nn.functional.layer_norm(x, x.shape[-1:], self.weights["norm.weight"])
        return self.linear("output", x)


if __name__ == "__main__":
    model = Classifier()
    with torch.no_grad():
        for text, row in zip(sys.argv[1:], model(**model.inputs(sys.argv[1:])).softmax(-1)):
            print(model.labels[int(row.argmax())], [round(float(p), 4) for p in row], text)
