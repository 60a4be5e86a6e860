"""LoRA with timm and Hugging Face PEFT, as a user would write it; benchmarks/peft_side_by_side.py measures it.

python benchmarks/peft_script.py FOLDER --size 32 --epochs 3
"""

import argparse
import math

import timm
import torch
from peft import LoraConfig, get_peft_model
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder")
parser.add_argument("--size", type=int, default=32)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch", type=int, default=20)
parser.add_argument("--lr", type=float, default=5e-3)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(args.threads)
transform = transforms.Compose(
    [
        transforms.Resize((args.size, args.size), transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
        transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ]
)
train = ImageFolder(f"{args.folder}/train", transform)
test = ImageFolder(f"{args.folder}/test", transform)
train_loader = DataLoader(train, args.batch, shuffle=True, num_workers=2, persistent_workers=True)
test_loader = DataLoader(test, args.batch, num_workers=2)

if args.size == 32:
    model = VisionTransformer(
        img_size=32, patch_size=4, embed_dim=128, depth=6, num_heads=4, num_classes=len(train.classes)
    )
else:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=len(train.classes))
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=8, target_modules=["qkv"], modules_to_save=["head"]))

optimizer = torch.optim.AdamW(
    [p for p in model.parameters() if p.requires_grad], lr=args.lr, weight_decay=1e-4, fused=True
)
steps = args.epochs * len(train_loader)
warmup = max(1, round(0.1 * steps))
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer,
    lambda step: (
        (step + 1) / warmup
        if step < warmup
        else 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    ),
)
for _ in range(args.epochs):
    model.train()
    for images, labels in train_loader:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()

model.eval()
right = 0
with torch.no_grad():
    for images, labels in test_loader:
        right += (model(images).argmax(1) == labels).sum().item()
print(f"accuracy {100 * right / len(test):.2f}%")
